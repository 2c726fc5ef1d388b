"""Random state, marks, workers and shared fixtures of all tests.

A test is `fast` unless it is marked `slow`, or its file or one of its fixtures is listed here as
slow. A fast test that starts a process fails. `gpu` needs a GPU, `browser` Chromium, and `cluster`
root and some programs.
"""

import fcntl
import gc
import os
import platform
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.support.launched import run, write_finished
from tests.support.studies import tiny

if TYPE_CHECKING:  # importing MLflow takes seconds
    from study.tracking.server.client import Client
    from study.tracking.study_record import StudyRecord
    from study.tracking.tracker import Tracker

# Files whose tests take long: trainings, searches for proofs, many draws.
LONG_FILES = {
    "test_block_bounds", "test_bounded_tpe", "test_certificate", "test_difference",
    "test_error_bound", "test_ladder", "test_losses", "test_optimizers", "test_radius",
    "test_spectral_norm", "test_stored", "test_tracker", "test_training", "test_worker",
}  # fmt: skip
# Files whose tests start processes, all or most of them (Ray, a server, a browser, commands).
# `pytest -m fast` does not import them: some need packages outside the extra `fast`, such as Ray's
# cluster launcher (test_cluster_yaml) and optuna-dashboard (test_export).
SLOW_FILES = LONG_FILES | {
    "test_api_pages", "test_browser", "test_browser_study", "test_browser_text",
    "test_cluster_yaml", "test_comparison_page", "test_delete", "test_export", "test_family_study",
    "test_figure", "test_handles", "test_hostile_input", "test_kuberay", "test_launch",
    "test_moved", "test_nodes",
    "test_notebook", "test_outage", "test_own_code", "test_pretended_cuda", "test_readme",
    "test_remote_root", "test_serving", "test_table_study", "test_wheel",
}  # fmt: skip
SLOW_FOLDERS = {"cluster", "verification"}
SLOW_FIXTURES = {"finished", "one_ray"}
# Events of `sys.audit` for starting a process.
STARTS_A_PROCESS = {
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen",
}  # fmt: skip

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Debian keeps PostgreSQL's own programs off the PATH; pg_lsclusters is on it.
CLUSTER_PROGRAMS = (
    "sshd", "ssh", "rsync", "ip", "nmap", "unshare", "nsenter", "pg_lsclusters",
)  # fmt: skip


def is_slow_file(path: Path) -> bool:
    return path.stem in SLOW_FILES or path.parent.name in SLOW_FOLDERS


def is_fast_run(config: pytest.Config) -> bool:
    return bool(config.option.markexpr == "fast")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if is_fast_run(config) and is_slow_file(collection_path) else None


class FastTest:
    """The fast test that is running, if any."""

    name: str | None = None

    @classmethod
    def refuse_processes(cls, event: str, arguments: tuple[object, ...]) -> None:
        if event in STARTS_A_PROCESS and cls.name is not None:
            pytest.fail(
                f"{cls.name} is fast, but starts a process ({event} {arguments[:1]}): mark it slow"
            )


# Python starts `uname` for the first platform.processor(), which MLflow calls when imported.
platform.processor()
sys.addaudithook(FastTest.refuse_processes)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    FastTest.name = item.nodeid if item.get_closest_marker("fast") else None
    try:
        return (yield)
    finally:
        FastTest.name = None


@pytest.fixture(scope="session", autouse=True)
def _a_thread_for_each_worker() -> None:
    """Spinning threads of several workers, and of their launches, would multiply the time."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def missing_for_clusters() -> str | None:
    """Why the cluster tests cannot run here; None if they can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [program for program in CLUSTER_PROGRAMS if shutil.which(program) is None]
    return f"needs {', '.join(missing)} on the PATH" if missing else None


@pytest.fixture(scope="session", autouse=True)
def _ray_of_its_own(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep launches from joining a Ray cluster of another worker's tests, or of another user, and
    give them one CPU."""
    # Not below pytest's folders: the paths of Ray's sockets are limited to 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        # Else Ray that a test starts itself writes one to the home of who runs the tests.
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # One trial at a time, since the sampler learns from trials in the order in which they end;
        # and one worker, since each imports torch for seconds.
        patch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 1}')
        yield
    if not request.session.testsfailed:  # else keep Ray's logs
        shutil.rmtree(folder, ignore_errors=True)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One per core, at most four: more only wait for each other, since processors are busy all the
    time. None if files or tests are named, which would be done before the workers have imported
    torch."""
    if any("::" in argument or Path(argument).is_file() for argument in config.args):
        return 0
    return min(4, os.cpu_count() or 1)


def pytest_sessionstart() -> None:
    """Exclude the objects of all imports from garbage collection, since they stay."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# Workers take file after file; the longest go first, so that no worker ends alone with one.
LONGEST = (
    "test_cluster",
    "test_launch",
    "test_readme",
    "test_outage",
    "test_own_code",
    "test_family_study",
    "test_notebook",
    "test_browser",
    "test_measured",
    "test_stored_files",
    "test_proof",
    "test_training",
    "test_pretended_cuda",
)


@pytest.hookimpl(tryfirst=True)  # before tests are selected by mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    for item in items:
        is_slow = is_slow_file(item.path) or SLOW_FIXTURES & set(getattr(item, "fixturenames", ()))
        if not (is_slow or item.get_closest_marker("slow") or item.get_closest_marker("browser")):
            item.add_marker("fast")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU; here is none"))
        if item.get_closest_marker("browser") and CHROMIUM is None:
            item.add_marker(pytest.mark.skip(reason="needs chromium on the PATH; here is none"))
        if item.get_closest_marker("cluster") and (missing := missing_for_clusters()):
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database to copy, since MLflow takes a second to create one."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def laid_out(empty_database: Path, tmp_path: Path) -> None:
    """An empty database in tmp_path, for launches there."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")


@pytest.fixture
def client(laid_out: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Client"]:
    import mlflow

    from study.tracking.server.client import Client

    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    yield Client(f"sqlite:///{tmp_path}/mlflow.db")
    assert mlflow.get_tracking_uri() == "sqlite:////nowhere/mlflow.db"  # unchanged


@pytest.fixture
def study(client: "Client") -> "StudyRecord":
    from study.tracking import studies

    return studies.create(client, tiny(), "/x/tiny.yaml", "/x/ray_results/tiny")


@pytest.fixture
def tracker(client: "Client", study: "StudyRecord") -> "Tracker":
    from study.tracking.tracker import Tracker

    return Tracker(client, study)


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    from tests.support.one_ray import one_ray

    with one_ray():
        yield


@pytest.fixture(scope="session")
def finished(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three trials, run to its end by the command; it must not be changed,
    since all workers share it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "finished"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            shutil.copy(empty_database, folder / "mlflow.db")
            out = run(folder, str(write_finished(folder)))
            assert "3 trials of 3 epochs on digits" in out
            assert "mlflow server" in out
            (folder / "launch.txt").write_text(out)
    return folder
