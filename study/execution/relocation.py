"""Tune's state of a study whose folder was moved: what Ray leaves at the old place.

`Tuner.restore` takes the folder that it is given for the tuner, for each trial that it knows and
for their checkpoints. The search state, though, brings back the experiment that it was saved with,
and so each trial that is new would be kept in the folder where the study began.
"""

import pickle
from pathlib import PurePosixPath

from pyarrow.fs import FileSelector
from ray import cloudpickle

from study.execution.snapshots import SEARCH_PREFIX
from study.execution.storage import filesystem


def keep_new_trials_in(folder: str) -> None:
    """Let Tune's state of a study keep new trials in the folder, or bucket, that it is in.

    Args:
        folder: the study's, whose state is whole.
    """
    files, path = filesystem(folder)
    for info in files.get_file_info(FileSelector(path)):
        if not PurePosixPath(info.path).name.startswith(SEARCH_PREFIX):
            continue
        with files.open_input_stream(info.path) as file:
            state = pickle.loads(file.readall())
        experiment, here = state["experiment"], PurePosixPath(path)
        if experiment.storage.experiment_fs_path == str(here):
            continue
        for storage in (experiment.storage, experiment.spec["storage"]):
            storage.storage_filesystem = files
            storage.storage_fs_path = str(here.parent)
            storage.experiment_dir_name = here.name
        with files.open_output_stream(info.path) as file:
            file.write(cloudpickle.dumps(state))
