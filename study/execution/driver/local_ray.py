"""Ray on this host for one driver: on the loopback interface, with a token of its own."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import ray
from ray._private import ray_constants, services
from ray._private.node import Node
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

_TOKEN, _MODE = "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"


@contextmanager
def local_ray(address: str | None, **options: Any) -> Iterator[None]:
    """Start Ray on this host. No other host reaches it, and no other user of this host gets its
    token, which this process holds until the context ends; call `ray.shutdown` before that.

    Args:
        address: None or "local".
        options: further arguments of `ray.init`.

    Raises:
        ValueError: if the address is None and a cluster was started on this host.
        ConnectionError, RuntimeError: if Ray does not start.
    """
    with _token_of_its_own():
        with ExitStack() as changes:
            for place, name, value in _changes_of_ray():
                changes.enter_context(_changed(place, name, value))
            # Given `resources`, Ray starts here, or raises ValueError if it finds a cluster.
            ray.init(address=address, resources={"started_by_study": 1}, **options)
        yield


def _changes_of_ray() -> Iterator[tuple[Any, str, object]]:
    """Yield what to replace in Ray while it starts: (module or class, name in it, new value)."""
    # Makes Ray take 127.0.0.1 for the address of this host, on which all of its processes listen.
    # If `ray.init` were given this address, Ray would replace it by one that other hosts reach,
    # except where it supports no clusters, as on macOS.
    yield ray_constants, "ENABLE_RAY_CLUSTER", False
    if sys.platform == "linux":
        # Puts Ray's processes into process groups of their own: a signal to this process's group,
        # as `timeout` sends it, would otherwise end them while the study still finishes its epochs.
        # On Linux they end with this process in any case.
        yield services, "ConsolePopen", partial(services.ConsolePopen, process_group=0)
    if os.environ["RAY_USAGE_STATS_ENABLED"] == "0":
        # Leaves out the dashboard's process. Without pages its one task is to report how Ray is
        # used, and even with reports off it asks the cloud's metadata address. (None, None) is what
        # Ray itself returns where the process cannot start.
        yield services, "start_api_server", lambda *_, **__: (None, None)
    # Leaves out the process that sends workers' output to the driver, where nobody reads it, and
    # the one that asks for more nodes: each would import Ray while trials start.
    for program in ("start_log_monitor", "start_monitor"):
        yield Node, program, lambda _: None


@contextmanager
def _changed(place: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


@contextmanager
def _token_of_its_own() -> Iterator[None]:
    """Give Ray a new token through the environment, which its processes inherit. Otherwise Ray uses
    the token in ~/.ray/auth_token, which is also the cluster's, or writes one there that every user
    of this host can read. No token is used if RAY_AUTH_MODE switches tokens off."""
    before = {name: os.environ.get(name) for name in (_TOKEN, _MODE)}
    os.environ[_TOKEN] = secrets.token_hex(32)
    os.environ.setdefault(_MODE, "token")
    _read_again()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        # A cluster that this process joins later has another token.
        _read_again()


def _read_again() -> None:
    """Make Ray read mode and token from the environment again: it caches both."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
