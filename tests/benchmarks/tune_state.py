"""What Tune's state of a study costs, by how many trials there are.

    python -m tests.benchmarks.tune_state STUDY_FOLDER [--trials 1000,10000,100000]

STUDY_FOLDER is that of a study in its storage. Its trials, as Tune keeps them in memory and in its
file, are repeated under other ids until there are so many. Prints how much of this process's memory
they take, how large Tune's file is, and the seconds that it takes Tune to write it and this project
to copy it into an archive, as `study.execution.files.snapshots` does. Both are done so seldom that
each takes a twentieth of the time at most. 100,000 trials need 16 GB of memory and three minutes.
"""

import argparse
import io
import json
import resource
import tempfile
import time
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from ray.tune.experiment import Trial
from ray.tune.utils.serialization import TuneFunctionEncoder

from tests.benchmarks.alternating import machine


def _memory() -> float:
    """Of this process now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _trials(known: list[tuple[str, str]], n: int) -> list[Trial]:
    trials = []
    for number in range(n):
        state, metadata = known[number % len(known)]
        described = json.loads(state)
        described["trial_id"] = f"{number:08d}"
        trial = Trial.from_json_state(json.dumps(described), stub=True)
        trial.restore_run_metadata(metadata)
        trials.append(trial)
    return trials


def measure(known: list[tuple[str, str]], n: int, folder: Path) -> None:
    before = _memory()
    trials = _trials(known, n)
    # As Tune's controller keeps and writes them.
    kept = {trial.trial_id: trial.get_json_state() for trial in trials}
    memory = _memory() - before
    path = folder / "experiment_state.json"
    start = time.perf_counter()
    with path.open("w") as file:
        json.dump({"trial_data": list(kept.values())}, file, cls=TuneFunctionEncoder)
    written = time.perf_counter() - start
    start = time.perf_counter()
    content = io.BytesIO()
    with ZipFile(content, "w", ZIP_DEFLATED, compresslevel=1) as copy:
        copy.writestr(path.name, path.read_bytes())
    copied = time.perf_counter() - start
    size, most = path.stat().st_size / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{n:7,} trials: {memory:,.0f} MB in memory, {size:,.0f} MB written in {written:.1f} s, "
        f"{content.tell() / 1e6:,.0f} MB copied in {copied:.1f} s; at most {most:,.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("study_folder", type=Path)
    parser.add_argument("--trials", default="1000,10000,100000")
    arguments = parser.parse_args()
    print(machine())
    newest = max(arguments.study_folder.glob("experiment_state-*.json"))
    known = [(state, metadata) for state, metadata in json.loads(newest.read_text())["trial_data"]]
    with tempfile.TemporaryDirectory() as folder:
        for n in sorted(int(n) for n in arguments.trials.split(",")):
            measure(known, n, Path(folder))


if __name__ == "__main__":
    main()
