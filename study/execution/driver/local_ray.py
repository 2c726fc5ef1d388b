"""Ray on this host for one driver: on the loopback interface, with a token of its own."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

_TOKEN, _MODE = "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"


@contextmanager
def local_ray(address: str | None, **options: Any) -> Iterator[None]:
    """Start Ray on this host. No other host reaches it, and no other user of this one gets its
    token, which this process has until the context ends; call `ray.shutdown` before.

    Args:
        address: None or "local".
        options: of `ray.init`.

    Raises:
        ValueError: if the address is None and a cluster was started on this host.
        ConnectionError, RuntimeError: if Ray does not start.
    """
    with _token_of_its_own():
        with _groups_of_their_own(), _on_loopback(), _without_usage_statistics():
            # Given `resources`, Ray starts here, or raises ValueError if it finds a cluster.
            ray.init(address=address, resources={"started_by_study": 1}, **options)
        yield


@contextmanager
def _token_of_its_own() -> Iterator[None]:
    """Give Ray a new token through the environment, which its processes inherit. Otherwise Ray uses
    the one in ~/.ray/auth_token, which is also the cluster's, or writes one there that every user
    of this host can read. Whoever switched tokens off by RAY_AUTH_MODE gets none."""
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
    """Make Ray read mode and token from the environment; it keeps both."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _groups_of_their_own() -> Iterator[None]:
    """Give Ray's processes their own process groups on Linux, where they end with this process in
    any case. A signal to the group of this process, as `timeout` sends it, would end them while the
    study still finishes its epochs."""
    popen = services.ConsolePopen
    if sys.platform == "linux":
        services.ConsolePopen = partial(popen, process_group=0)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        services.ConsolePopen = popen  # type: ignore[misc]


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Make Ray take 127.0.0.1 as the address of this host, on which all of its processes then
    listen. As an argument of `ray.init` Ray replaces that address by one that other hosts reach,
    except where it supports no clusters, as on macOS."""
    supported = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = supported


@contextmanager
def _without_usage_statistics() -> Iterator[None]:
    """Start Ray without the process of its dashboard, which without pages has one task, to report
    how Ray is used. Even where that is off, it asks the cloud's metadata address."""
    start = services.start_api_server
    if os.environ["RAY_USAGE_STATS_ENABLED"] == "0":
        # What Ray itself gives where that process cannot start.
        services.start_api_server = lambda *_, **__: (None, None)
    try:
        yield
    finally:
        services.start_api_server = start
