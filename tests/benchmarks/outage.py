"""What an outage of MLflow costs a study: the same study with and without one, in turns.

    python -m tests.benchmarks.outage [--rounds N] [--seconds S] [--epochs N] [--at-once N]

Each round runs a study of a few trials on the digits twice, with the same seeds, against an MLflow
server of its own: once undisturbed, and once with the server killed for S seconds in the middle.
Compared are the seconds that each trial took from its first report to its last, trial by trial, and
after the outage the books: every metric once, with the time at which it was measured. Exit code 1
if they are not right.

Without --at-once one trial runs at a time, and leaves the other cores to driver and server: on a
cluster these are on the head, which has no trials, and on a trial's core the seconds of CPU that a
server takes to start would be the trial's.
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from tests.support.launched import Books, Launch, check_books, epochs_logged, reports, write_space
from tests.support.served import Server
from tests.support.studies import RAW
from tests.test_outage import times

N_TRIALS = 5


def _study(folder: Path, n_epochs: int, address: str, outage_seconds: float) -> dict[str, float]:
    """Run it; seconds of each trial between its first and its last report."""
    raw: dict[str, Any] = {
        **RAW,
        "model": {"blocks": [2, 2, 2], "channel_multiplier": 8},
        "training": {**RAW["training"], "max_epochs": n_epochs},
    }
    space = write_space(folder, raw, n_trials=N_TRIALS)
    server = Server(folder)
    server.start()
    try:
        options = ("--tracking-uri", server.uri, "--address", address)
        with Launch(folder, str(space), *options) as launched:
            if outage_seconds:
                launched.until(lambda: epochs_logged(folder) >= n_epochs)
                server.kill()
                gone = time.time()
                time.sleep(outage_seconds)  # the outage
                server.start()
                back = time.time()
            out, err = launched.process.communicate()
            assert launched.process.returncode == 0, out + err
        check_books(Books(folder), "tiny", N_TRIALS, n_epochs)
        measured = times(folder)
        # As whole milliseconds, which round(seconds, 3) is not always.
        assert measured == {
            trial: {epoch: round(1000 * at) / 1000 for epoch, at in of.items()}
            for trial, of in reports(folder / "ray_results" / "tiny").items()
        }
        if outage_seconds:
            n_away = sum(gone < at < back for of in measured.values() for at in of.values())
            print(f"  {n_away} of {N_TRIALS * n_epochs} epochs were measured while it was away")
        return {trial: max(of.values()) - min(of.values()) for trial, of in measured.items()}
    finally:
        server.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=1)
    arguments = parser.parse_args()
    ray.init(num_cpus=arguments.at_once, include_dashboard=False, logging_level=logging.ERROR)
    address = ray.get_runtime_context().gcs_address
    ratios = []
    for _ in range(arguments.rounds):
        taken = []
        for outage_seconds in (0.0, arguments.seconds):
            with tempfile.TemporaryDirectory() as name:
                taken.append(_study(Path(name), arguments.epochs, address, outage_seconds))
        undisturbed, disturbed = taken
        of_round = {trial: disturbed[trial] / undisturbed[trial] for trial in undisturbed}
        ratios += list(of_round.values())
        line = ", ".join(
            f"{trial} {disturbed[trial]:.1f} / {undisturbed[trial]:.1f} s = {ratio:.3f}"
            for trial, ratio in sorted(of_round.items())
        )
        print(line, flush=True)
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{os.cpu_count()} cores, {arguments.seconds:g} s away: a trial takes {middle:.3f} "
        f"[{low:.3f}, {high:.3f}] times as long, at most {max(ratios):.3f}; books right"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
