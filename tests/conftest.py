"""Every test starts from the same random state and leaves none behind. Fixtures that several
files use: an empty MLflow, and a study in it; a study that the command ran.

A test is `fast` unless its file or a fixture of it is listed here as slow, or it is marked `slow`
itself. A fast test that starts a process fails. `gpu` needs a GPU, `browser` a Chromium, `cluster`
root and some programs.

The whole suite runs on three workers, since most of a launch is waiting for processes to start."""

import fcntl
import gc
import os
import platform
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

if TYPE_CHECKING:  # MLflow is imported for seconds, which tests without it need not wait for
    from study.tracking.records import StudyRecord
    from study.tracking.tracker import Tracker

# Files whose tests start processes (Ray, a server, a browser, commands), most of them or all.
# `pytest -m fast` does not import them: some need packages that the extra `fast` does not have.
# Ray's launcher of clusters (test_cluster_yaml) and optuna-dashboard (test_export) are such.
SLOW_FILES = {
    "test_browser", "test_cluster_yaml", "test_comparison_page", "test_delete", "test_export",
    "test_handles", "test_hostile_input", "test_launch", "test_moved", "test_nodes",
    "test_notebook", "test_outage", "test_pretended_cuda", "test_readme", "test_services",
    "test_verify", "test_wheel",
}  # fmt: skip
SLOW_FOLDERS = {"cluster"}
SLOW_FIXTURES = {"finished", "one_ray"}
# With which Python starts another process, as `sys.audit` names it.
STARTS_A_PROCESS = {
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen",
}  # fmt: skip

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# PostgreSQL's own are not on the PATH of Debian, pg_lsclusters is.
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
    """The fast test that runs now, if one does."""

    name: str | None = None

    @classmethod
    def refuse_processes(cls, event: str, arguments: tuple[object, ...]) -> None:
        if event in STARTS_A_PROCESS and cls.name is not None:
            pytest.fail(
                f"{cls.name} is fast, but starts a process ({event} {arguments[:1]}): mark it slow"
            )


# Python starts `uname` the first time it is asked for the processor, as MLflow does when imported.
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
    """Threads of two workers that spin beside each other would take a multiple of the time; so
    would those of the studies that they launch."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def missing_for_clusters() -> str | None:
    """What keeps the tests of clusters from running here."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [program for program in CLUSTER_PROGRAMS if shutil.which(program) is None]
    return f"needs {', '.join(missing)} on the PATH" if missing else None


@pytest.fixture(scope="session", autouse=True)
def _ray_of_its_own(request: pytest.FixtureRequest) -> Iterator[None]:
    """A launch joins the cluster that it finds on its host: not one of another worker's tests, nor
    one that someone else runs here."""
    # Not below pytest's folders: the sockets that Ray makes in it have paths of 107 bytes at most.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield
    if not request.session.testsfailed:  # else Ray's logs in it may say why
        shutil.rmtree(folder, ignore_errors=True)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Of the fast tests one for each of up to four cores. Else three, on machines of any size:
    every study that a test launches takes all cores, and waits for most of its time. None where
    files or tests are named, which would be done before the workers have imported torch."""
    if any("::" in argument or Path(argument).is_file() for argument in config.args):
        return 0
    return min(4, os.cpu_count() or 1) if is_fast_run(config) else 3


def pytest_sessionstart() -> None:
    """What the imports of all tests make stays: the garbage collector need not look at it."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# A worker takes one file after another: with the longest first, none is left alone with such a one.
LONGEST = (
    "test_cluster",
    "test_launch",
    "test_readme",
    "test_outage",
    "test_notebook",
    "test_browser",
)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
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
    """MLflow takes a second to lay out a database; the tests copy this one."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def laid_out(empty_database: Path, tmp_path: Path) -> None:
    """An empty database in tmp_path, for what is launched there."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")


@pytest.fixture
def tracker(laid_out: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Tracker"]:
    import mlflow

    from study.tracking.client import Client
    from study.tracking.tracker import Tracker

    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts below the working directory
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    yield Tracker(Client(f"sqlite:///{tmp_path}/mlflow.db"))
    assert mlflow.get_tracking_uri() == "sqlite:////nowhere/mlflow.db"  # as it was


@pytest.fixture
def study(tracker: "Tracker") -> "StudyRecord":
    from study.tracking import studies

    record = studies.create(tracker.client, tiny(), "/x/tiny.yaml", "/x/ray_results/tiny")
    tracker.open_study(record)
    return record


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    from tests.support.one_ray import one_ray

    with one_ray():
        yield


@pytest.fixture(scope="session")
def finished(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three trials, run to its end by the command. Not to be changed: the
    first worker that wants it makes it for all."""
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
