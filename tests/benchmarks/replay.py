"""Search strategies compared on a table of real trials, by epochs to reach the table's front.

    python -m tests.benchmarks.replay [TABLE] [--seeds 40] [--epochs 576] [--workers 2]

TABLE is what tests.benchmarks.trial_table wrote; the one that lies beside this file if left out.
Each strategy's own searcher and scheduler, the classes that a study runs with, propose samples and
stop trials. A proposed sample gets the training of the table that is nearest to it in the unit cube
of the space and was not dealt before, and reports that training's metrics epoch by epoch; once all
were dealt, they are dealt again.
Workers train an epoch each, in turns; an epoch is what everything is counted in, those of stopped
trials and the steps of fine-tuning included.

    random      this project's searcher with Optuna's random sampler, no trial stopped
    stock fifo  Ray's OptunaSearch on all objectives, no trial stopped
    stock asha  Ray's OptunaSearch on all objectives, Ray's ASHA on validation accuracy
    ours        this project's tpe, constraints known, no ladder; with mo_asha, and with fifo
    ours+ladder the same, and each completed network projected down the ladder
    ours+tuned  the same, with fine-tuning at each rung

Prints, over the seeds, the median and the quartiles of the epochs until the hypervolume of the
real points (trained for all epochs, bound below 1) is 95 % of that of all trainings in the table,
without any projection; then how many points on the front that each strategy reports did not run
their budget or break the constraint: for stock, Optuna's best_trials, which is what
it has to offer.

What it can say: how many epochs these strategies spend on this space, this network and these
trainings, with all of a search's feedback in place. What it cannot: anything finer than the
samples in the table, whose nearest neighbor stands for all around it; what other networks, data or
lengths of training would give; and what wall-clock time a projection costs, which trains nothing
and is counted as nothing here.
"""

import argparse
import gzip
import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from study.config.parser import parse
from study.config.study import StudyConfig
from study.metrics import (
    LIPSCHITZ_UPPER_BOUND,
    VAL_ACCURACY,
    Direction,
    EpochReport,
    ProjectionReport,
    TrialReport,
    TrialStatus,
)
from study.pareto import dominance, points
from study.pareto.dominance import Losses
from study.pareto.growing import GrowingFront
from study.results.front import Mark, collect
from study.search.scheduler import make_halving, make_scheduler
from study.search.searcher import OptunaSearcher
from study.search.suggestion import Suggestion
from study.tracking.records import StudyRecord, TrialRecord
from tests.benchmarks.alternating import machine
from tests.benchmarks.trial_table import LADDER

TABLE = Path(__file__).with_name("trial_table.json.gz")
MO_ASHA = {"name": "mo_asha", "grace_period": 1, "reduction_factor": 3}
_TARGET = 0.95
# What a scheduler asks Tune's controller for when a trial is added: its undone decisions.
_CONTROLLER: Any = SimpleNamespace(
    _tune_controller=SimpleNamespace(_cached_trial_decisions={}, _queued_trial_decisions={})
)


class Table:
    """The trials of the table, and their projections."""

    def __init__(self, path: Path) -> None:
        content = json.loads(gzip.decompress(path.read_bytes()))
        self.raw: dict[str, Any] = content["study"]
        self.study = parse(self.raw, str(path))
        self.rows: list[dict[str, Any]] = content["rows"]
        self._places = np.array([_place(row["sample"]) for row in self.rows])

    def deal(self, sample: Mapping[str, Any], dealt: set[int], rng: np.random.Generator) -> int:
        """Index of the nearest training that was not dealt yet; at random among its repeats.

        Once all were dealt, `dealt` is emptied and they are dealt again.
        """
        if len(dealt) == len(self.rows):
            dealt.clear()
        distances = np.linalg.norm(self._places - _place(sample), axis=1)
        distances[list(dealt)] = np.inf
        nearest = np.flatnonzero(distances == distances.min())
        chosen = int(rng.choice(nearest))
        dealt.add(chosen)
        return chosen

    def points(self, study: StudyConfig, fine_tune_steps: int | None = None) -> Losses:
        """Admitted points of every completed training, as losses; with its projections, after so
        many steps each, unless that is None."""
        metrics = []
        for row in self.rows:
            if row["status"] == TrialStatus.COMPLETED:
                projected = [
                    p for p in row["projections"] if p["fine_tune_steps"] == fine_tune_steps
                ]
                metrics += [row["epochs"][-1], *projected]
        admitted = [m for m in metrics if points.admitted(m, study.objectives, study.constraints)]
        return points.losses(admitted, study.objectives)


def _place(sample: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """A sample in the unit cube of the table's space."""
    return np.array(
        [
            (sample["coeff"] - 0.3) / 0.69,
            math.log(sample["n_power_iterations"]) / math.log(20),
            sample["dropout"] / 0.5,
        ]
    )


def ray_result(row: Mapping[str, Any], epoch: int, study: StudyConfig) -> dict[str, Any]:
    """The Ray result that a trial of this project reports after an epoch of a training."""
    n_epochs = len(row["epochs"])
    if epoch > n_epochs:
        return TrialReport(TrialStatus.FAILED, reason="diverged").to_result()
    report = EpochReport(epoch=epoch, timestamp=0.0, **row["epochs"][epoch - 1])
    if epoch < study.training.max_epochs:
        return TrialReport(TrialStatus.RUNNING, report).to_result()
    rungs = [c for c in study.ladder if c < row["sample"]["coeff"]]
    projections = tuple(
        ProjectionReport(timestamp=0.0, test_accuracy=math.nan, **values)
        for values in row["projections"]
        if values["coeff"] in rungs and values["fine_tune_steps"] == study.search.fine_tune_steps
    )
    return TrialReport(TrialStatus.COMPLETED, report, projections=projections).to_result()


@dataclass
class Strategy:
    """A searcher and a scheduler, and what they make of the study's metrics.

    Attributes:
        study: whose ladder says what a completed trial adds.
        front: what the strategy itself gives as its front at the end: (epochs trained,
            lipschitz_upper_bound) of each point.
    """

    study: StudyConfig
    searcher: Searcher
    scheduler: TrialScheduler
    front: Callable[["Run"], list[tuple[int, float]]]
    is_stock: bool = False


@dataclass
class _Trial:
    trial_id: str
    config: dict[str, Any]
    sample: Mapping[str, Any]
    row: dict[str, Any]
    epoch: int = 0
    last: dict[str, Any] | None = None
    state: TrialStatus = TrialStatus.RUNNING


class Run:
    """One study of a strategy, replayed."""

    def __init__(self, table: Table, strategy: Strategy, seed: int, workers: int) -> None:
        self.table, self.strategy = table, strategy
        self.rng = np.random.default_rng(seed)
        self.workers = workers
        self.trials: list[_Trial] = []
        self.cost = 0.0
        self.curve: list[tuple[float, float]] = []
        self._front = GrowingFront(points.reference_losses(strategy.study.objectives))
        self._dealt: set[int] = set()

    def go(self, budget: float) -> "Run":
        """Train until so many epochs are spent."""
        running: list[_Trial] = []
        while self.cost < budget:
            while len(running) < self.workers:
                trial = self._start()
                if trial is None:
                    break
                running.append(trial)
            if not running:
                break
            for trial in list(running):
                self.cost += 1
                if self._step(trial):
                    running.remove(trial)
        return self

    def _start(self) -> _Trial | None:
        trial_id = f"t{len(self.trials)}"
        config = self.strategy.searcher.suggest(trial_id)
        if not isinstance(config, dict):
            return None
        sample = config if self.strategy.is_stock else Suggestion.of_config(config).sample
        row = self.table.rows[self.table.deal(sample, self._dealt, self.rng)]
        trial = _Trial(trial_id, config, sample, row)
        self.trials.append(trial)
        self.strategy.scheduler.on_trial_add(_CONTROLLER, trial)
        return trial

    def _step(self, trial: _Trial) -> bool:
        """An epoch of a trial; whether it has ended."""
        strategy, study = self.strategy, self.strategy.study
        trial.epoch += 1
        result = ray_result(trial.row, trial.epoch, study)
        report = TrialReport.from_result(result)
        assert report is not None
        if strategy.is_stock:
            # What a trainable hands to stock Tune: the metrics alone.
            metrics = {} if report.epoch is None else report.epoch.metrics()
            result = {**metrics, "training_iteration": trial.epoch, "time_total_s": 0.0}
        trial.last, trial.state = result, report.status
        if report.status is TrialStatus.FAILED:
            strategy.searcher.on_trial_complete(trial.trial_id, None, error=True)
            return True
        strategy.searcher.on_trial_result(trial.trial_id, result)
        decision = TrialScheduler.CONTINUE
        if report.status is TrialStatus.RUNNING or strategy.is_stock:
            decision = strategy.scheduler.on_trial_result(None, trial, result)
        if report.status is TrialStatus.RUNNING and decision == TrialScheduler.CONTINUE:
            return False
        if report.status is TrialStatus.RUNNING:
            trial.state = TrialStatus.STOPPED_EARLY
        else:
            self.cost += (
                len(report.projections) * study.search.fine_tune_steps / self._steps_an_epoch
            )
            self._add(report)
        strategy.scheduler.on_trial_complete(None, trial, result)
        strategy.searcher.on_trial_complete(trial.trial_id, result)
        return True

    @property
    def _steps_an_epoch(self) -> float:
        n_images = self.table.study.data.max_train
        assert n_images is not None
        return n_images / self.table.study.training.batch_size

    def _add(self, report: TrialReport) -> None:
        study = self.strategy.study
        admitted = points.of_report(report, study.objectives, study.constraints)
        self._front.add(points.losses(list(admitted.values()), study.objectives))
        self.curve.append((self.cost, self._front.hypervolume))

    def epochs_to(self, hypervolume: float) -> float:
        """Epochs until the hypervolume of the real points was that; infinite if it never was."""
        return next((cost for cost, reached in self.curve if reached >= hypervolume), math.inf)


def _ours(table: Table, seed: int, search: dict[str, Any], scheduler: dict[str, Any]) -> Strategy:
    settings = {"n_trials": 1_000, "seed": seed, **search}
    study = parse({**table.raw, "search": settings, "scheduler": scheduler}, "replay")
    halving = make_halving(study)
    return Strategy(
        study, OptunaSearcher(study, halving), make_scheduler(study, halving), _our_front
    )


def _our_front(run: Run) -> list[tuple[int, float]]:
    """The front that study.report prints, from records as MLflow would have them."""
    study = run.strategy.study
    records, epochs = [], {}
    for trial in run.trials:
        report = TrialReport.from_result(trial.last or {})
        if report is None or report.epoch is None:
            continue
        record = TrialRecord(
            trial.trial_id, trial.trial_id, trial.state, {}, report.epoch.metrics(), {},
            trial.trial_id,
        )  # fmt: skip
        records.append(record)
        epochs[trial.trial_id] = trial.epoch
        for projection in report.projections:
            run_id = f"{trial.trial_id} at {projection.coeff}"
            metrics, coeff = projection.metrics(), projection.coeff
            records.append(replace(record, run_id=run_id, metrics=metrics, projected_to=coeff))
    whole = StudyRecord(study.name, "", "", study, "", "", False)
    return [
        (epochs[point.first.trial_id], point.metrics[LIPSCHITZ_UPPER_BOUND])
        for point in collect(whole, records).points
        if point.mark is Mark.FRONT
    ]


def stock_space() -> dict[str, Any]:
    """The space of the table's study, as Ray says it."""
    return {
        "coeff": tune.uniform(0.3, 0.99),
        "n_power_iterations": tune.lograndint(1, 21),
        "dropout": tune.uniform(0.0, 0.5),
    }


def stock_search(
    study: StudyConfig, seed: int, space: dict[str, Any] | None = None
) -> OptunaSearch:
    """Ray's searcher on a study's objectives; the space is Tuner's to give if left out."""
    return OptunaSearch(
        space=space,
        metric=[o.metric for o in study.objectives],
        mode=["max" if o.direction is Direction.MAXIMIZE else "min" for o in study.objectives],
        seed=seed,
    )


def _stock(table: Table, seed: int, scheduler: TrialScheduler) -> Strategy:
    searcher = stock_search(table.study, seed, space=stock_space())
    study = parse({**table.raw, "search": {"sampler": "random", "n_trials": 1}}, "replay")
    return Strategy(study, searcher, scheduler, _stock_front, is_stock=True)


def _stock_front(run: Run) -> list[tuple[int, float]]:
    """best_trials of the Optuna study that OptunaSearch keeps."""
    searcher: Any = run.strategy.searcher
    ids = {trial.number: trial_id for trial_id, trial in searcher._ot_trials.items()}
    by_id = {trial.trial_id: trial for trial in run.trials}
    index = [o.metric for o in run.table.study.objectives].index(LIPSCHITZ_UPPER_BOUND)
    return [
        (by_id[ids[trial.number]].epoch, trial.values[index])
        for trial in searcher._ot_study.best_trials
    ]


def strategies(table: Table) -> dict[str, Callable[[int], Strategy]]:
    """Each strategy by name, from a seed."""
    tuned = max(p["fine_tune_steps"] for row in table.rows for p in row["projections"])
    ladder = {"ladder": list(LADDER)}

    def asha() -> TrialScheduler:
        return AsyncHyperBandScheduler(
            metric=VAL_ACCURACY,
            mode="max",
            max_t=table.study.training.max_epochs,
            grace_period=MO_ASHA["grace_period"],
            reduction_factor=MO_ASHA["reduction_factor"],
        )

    fifo: dict[str, Any] = {"name": "fifo"}
    return {
        "random": lambda seed: _ours(table, seed, {"sampler": "random"}, fifo),
        "stock fifo": lambda seed: _stock(table, seed, FIFOScheduler()),
        "stock asha": lambda seed: _stock(table, seed, asha()),
        "ours fifo": lambda seed: _ours(table, seed, {}, fifo),
        "ours": lambda seed: _ours(table, seed, {}, MO_ASHA),
        "ours+ladder fifo": lambda seed: _ours(table, seed, ladder, fifo),
        "ours+ladder": lambda seed: _ours(table, seed, ladder, MO_ASHA),
        "ours+tuned": lambda seed: _ours(
            table, seed, {**ladder, "fine_tune_steps": tuned}, MO_ASHA
        ),
    }


def _spread(values: list[float]) -> str:
    """Median and quartiles, of which some may be infinite."""
    ordered = sorted(values)
    low = statistics.median(ordered[: (len(ordered) + 1) // 2])
    high = statistics.median(ordered[len(ordered) // 2 :])
    return f"{statistics.median(ordered):6.1f} [{low:.1f}, {high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table", type=Path, nargs="?", default=TABLE)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--epochs", type=float, default=576)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--reference", help="val_accuracy,lipschitz_upper_bound,inverse_steps")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    table = Table(arguments.table)
    if arguments.reference:
        values = [float(text) for text in arguments.reference.split(",")]
        names = [o.metric for o in table.study.objectives]
        table.raw = {**table.raw, "reference_point": dict(zip(names, values, strict=True))}
        table.study = parse(table.raw, str(arguments.table))
    reference = points.reference_losses(table.study.objectives)
    whole = dominance.hypervolume(table.points(table.study), reference)
    completed = sum(row["status"] == TrialStatus.COMPLETED for row in table.rows)
    print(machine())
    print(
        f"{len(table.rows)} trainings, {completed} completed; hypervolume of all {whole:.4f}, "
        f"target {_TARGET * whole:.4f}; reference point "
        f"{', '.join(f'{o.metric} {o.reference:g}' for o in table.study.objectives)}; with the "
        f"ladder {dominance.hypervolume(table.points(table.study, 0), reference):.4f}; "
        f"{arguments.seeds} seeds, {arguments.workers} workers, {arguments.epochs:g} epochs"
    )
    for name, make in strategies(table).items():
        reached, final, n_unreal, n_front, n_trials = [], [], 0, 0, 0
        start = time.perf_counter()
        for seed in range(arguments.seeds):
            run = Run(table, make(seed), seed, arguments.workers).go(arguments.epochs)
            reached.append(run.epochs_to(_TARGET * whole))
            final.append(run.curve[-1][1] / whole if run.curve else 0.0)
            front = run.strategy.front(run)
            n_front += len(front)
            n_trials += len(run.trials)
            n_unreal += sum(
                epochs < table.study.training.max_epochs or not bound < 1 for epochs, bound in front
            )
        seconds = (time.perf_counter() - start) / arguments.seeds
        print(
            f"{name:17} epochs to {_TARGET:.0%}: {_spread(reached)}; hypervolume at the end "
            f"{statistics.median(final):.3f}; on its front not real: {n_unreal} of {n_front}; "
            f"{n_trials / arguments.seeds:.0f} trials, {seconds:.1f} s a run",
            flush=True,
        )


if __name__ == "__main__":
    main()
