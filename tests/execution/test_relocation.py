import pickle
import shutil
from pathlib import Path

from ray import cloudpickle
from ray.tune import Trainable
from ray.tune.experiment import Experiment

from study.execution.relocation import keep_new_trials_in

STATE = "search_gen_state-2026-01-01_00-00-00.json"


def saved(folder: Path) -> Path:
    """A folder with the state of Tune's search as it leaves it there."""
    experiment = Experiment(folder.name, Trainable, storage_path=str(folder.parent))
    state = {"counter": 3, "total_samples": 9, "finished": False, "experiment": experiment}
    (folder / STATE).write_bytes(cloudpickle.dumps(state))
    return folder


def test_new_trials_of_a_moved_study_are_kept_where_it_is_now(tmp_path: Path) -> None:
    first = saved(tmp_path / "first" / "tiny")
    second = Path(shutil.copytree(first, tmp_path / "second" / "other"))
    keep_new_trials_in(str(second))
    state = pickle.loads((second / STATE).read_bytes())
    assert (state["counter"], state["total_samples"], state["finished"]) == (3, 9, False)
    # Tune makes a trial of the settings, and asks the experiment where it is.
    for storage in (state["experiment"].storage, state["experiment"].spec["storage"]):
        assert storage.experiment_fs_path == str(second)


def test_where_a_study_stayed_nothing_is_written(tmp_path: Path) -> None:
    folder = saved(tmp_path / "tiny")
    before = (folder / STATE).stat().st_mtime_ns
    keep_new_trials_in(str(folder))
    assert (folder / STATE).stat().st_mtime_ns == before
