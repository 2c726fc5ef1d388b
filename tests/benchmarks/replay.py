"""Search strategies compared on a table of real trials, by what the table's front costs them.

    python -m tests.benchmarks.replay [TABLE] [--accuracy 0.8] [--seeds 40] [--epochs 216]
        [--peers] [--only NAME ...]

TABLE is what tests.benchmarks.trial_table wrote; the one that lies beside this file if left out.
Each strategy's own searcher and scheduler, the classes that a study runs with, propose samples and
stop trials. A proposed sample gets the training of the table that is nearest to it in the unit cube
of the space and was not dealt before, and reports that training's metrics epoch by epoch; once all
were dealt, they are dealt again. Two workers train an epoch each, in turns.

    random, sobol, tpe, gp    this project's samplers, no trial stopped
    tpe, mo_asha              with successive halving
    stock                     Ray's OptunaSearch on all objectives, no trial stopped
    stock, ASHA               with Ray's ASHA on validation accuracy
    SMAC, BoTorch             with --peers (tests.benchmarks.peers)

"ladder": each completed network is projected to the table's rungs. A sampler then observes the
hypervolume of all networks of a training; one "of own" the objectives of the training's own
network. "narrow": in the ranges of search_spaces/paper_mnist.yaml; else in the whole space.

Real points are networks that were trained for all epochs, and their projections, with a bound below
1. Their hypervolume is that within accuracy, bound 1 and 20 inverse steps. Two targets: 95 % of the
hypervolume of all trainings in the table without projections, and 99 % of that with them. Printed
for each strategy, medians and quartiles over the seeds:

    epochs to each target, those of stopped trials included, and seconds of CPU of trainings and
    ladders, all proofs and measurements included
    the hypervolume after 18, 36, 72 and all epochs, as a part of the table's with projections
    how many points on the front that the strategy reports did not run their budget or break the
    constraint; stock's front is Optuna's best_trials
    seconds that the search itself took

What it can say: how much these strategies spend on this space, this network and these trainings,
with all of a search's feedback in place. What it cannot: anything finer than the samples in the
table and one of 3,000 validation images; and what other networks, data or lengths of
training would give. A sampler that proposes one place again and again is told of trainings farther
and farther off, which costs those with a model, and random and sobol nothing.
"""

import argparse
import gzip
import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from study.metrics.definitions import BLOCK_LIPSCHITZ_UPPER_BOUND, VAL_ACCURACY, Direction
from study.metrics.reports import EpochReport, ProjectionReport, TrialReport, TrialStatus
from study.pareto import dominance, points
from study.pareto.dominance import GrowingFront, Losses
from study.results.front import Mark
from study.results.report import collect
from study.search.scheduler import make_halving, make_scheduler
from study.search.searcher import OptunaSearcher
from study.search.suggestion import Suggestion
from study.tracking.study_record import StudyRecord, TrialRecord
from tests.benchmarks.alternating import machine

TABLE = Path(__file__).with_name("trial_table.json.gz")
FIFO = {"name": "fifo"}
MO_ASHA = {"name": "mo_asha", "grace_period": 1, "reduction_factor": 3}
_TARGET, _TARGET_WITH_LADDER = 0.95, 0.99
_AFTER_EPOCHS = (18, 36, 72)
_WORKERS = 2
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
        self.narrow: dict[str, Any] = content["narrow"]
        # The table has coefficients, whose third powers are the rungs' bounds.
        self.ladder: list[float] = [coeff**3 for coeff in content["ladder"]]
        self._places = np.array([_place(row["sample"]) for row in self.rows])

    def deal(self, sample: Mapping[str, Any], dealt: set[int]) -> int:
        """Index of the nearest training that was not dealt yet.

        Once all were dealt, `dealt` is emptied and they are dealt again.
        """
        if len(dealt) == len(self.rows):
            dealt.clear()
        distances = np.linalg.norm(self._places - _place(sample), axis=1)
        distances[list(dealt)] = np.inf
        nearest = int(distances.argmin())
        dealt.add(nearest)
        return nearest

    def points(self, *, with_projections: bool) -> Losses:
        """Admitted points of every completed training, as losses."""
        study, metrics = self.study, []
        for row in self.rows:
            if row["status"] == TrialStatus.COMPLETED:
                metrics += [row["epochs"][-1], *(row["projections"] if with_projections else ())]
        admitted = [m for m in metrics if points.admitted(m, study.objectives, study.constraints)]
        return points.scaled_losses(admitted, study.objectives)


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
    projections = tuple(
        ProjectionReport(
            projected_to=coeff**3,
            timestamp=0.0,
            test_accuracy=math.nan,
            **{name: value for name, value in values.items() if name != "coeff"},
        )
        for values in row["projections"]
        if (coeff := values["coeff"]) ** 3 in study.ladder
    )
    return TrialReport(TrialStatus.COMPLETED, report, projections=projections).to_result()


@dataclass
class Strategy:
    """A searcher and a scheduler, and what they make of the study's metrics.

    Attributes:
        study: whose ladder says what a completed trial adds.
        front: what the strategy itself gives as its front at the end: (epochs trained,
            block_lipschitz_upper_bound) of each point.
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


@dataclass(frozen=True)
class _Grown:
    """What was trained when a trial had completed, and the hypervolume of the real points then."""

    n_epochs: int
    cpu_seconds: float
    hypervolume: float


class Run:
    """One study of a strategy, replayed."""

    def __init__(self, table: Table, strategy: Strategy) -> None:
        self.table, self.strategy = table, strategy
        self.trials: list[_Trial] = []
        self.n_epochs = 0
        self.cpu_seconds = 0.0
        self.search_seconds = 0.0
        self.curve: list[_Grown] = []
        self._front = GrowingFront(points.reference_losses(strategy.study.objectives))
        self._dealt: set[int] = set()

    def go(self, budget: float) -> "Run":
        """Train until so many epochs are spent."""
        running: list[_Trial] = []
        while self.n_epochs < budget:
            while len(running) < _WORKERS:
                trial = self._start()
                if trial is None:
                    break
                running.append(trial)
            if not running:
                break
            for trial in list(running):
                self.n_epochs += 1
                if self._step(trial):
                    running.remove(trial)
        return self

    def _start(self) -> _Trial | None:
        trial_id = f"t{len(self.trials)}"
        start = time.perf_counter()
        config = self.strategy.searcher.suggest(trial_id)
        self.search_seconds += time.perf_counter() - start
        if not isinstance(config, dict):
            return None
        sample = config if self.strategy.is_stock else Suggestion(**config).sample
        row = self.table.rows[self.table.deal(sample, self._dealt)]
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
        self.cpu_seconds += trial.row["epoch_cpu_seconds"][trial.epoch - 1]
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
            self._add(trial, report)
        strategy.scheduler.on_trial_complete(None, trial, result)
        start = time.perf_counter()
        strategy.searcher.on_trial_complete(trial.trial_id, result)
        self.search_seconds += time.perf_counter() - start
        return True

    def _add(self, trial: _Trial, report: TrialReport) -> None:
        study = self.strategy.study
        if study.ladder:
            self.cpu_seconds += trial.row["ladder_cpu_seconds"]
        admitted = points.of_report(report, study.objectives, study.constraints)
        self._front.add(points.scaled_losses(list(admitted.values()), study.objectives))
        self.curve.append(_Grown(self.n_epochs, self.cpu_seconds, self._front.hypervolume))

    def reached(self, hypervolume: float) -> tuple[float, float]:
        """Epochs and seconds of CPU until the hypervolume of the real points was that; infinite if
        it never was."""
        for at in self.curve:
            if at.hypervolume >= hypervolume:
                return at.n_epochs, at.cpu_seconds
        return math.inf, math.inf

    def hypervolume_after(self, n_epochs: float) -> float:
        """That of the real points."""
        return max((at.hypervolume for at in self.curve if at.n_epochs <= n_epochs), default=0.0)


def _study(
    table: Table,
    seed: int,
    sampler: str,
    scheduler: Mapping[str, Any],
    *,
    ladder: bool,
    narrow: bool,
) -> StudyConfig:
    rungs = table.ladder if ladder else []
    changed = {
        "search": {"sampler": sampler, "n_trials": 1_000, "seed": seed, "ladder": rungs},
        "scheduler": dict(scheduler),
        "space": table.narrow if narrow else table.raw["space"],
    }
    return parse({**table.raw, **changed}, "replay")


def _ours(
    table: Table,
    seed: int,
    *,
    sampler: str,
    scheduler: Mapping[str, Any] = FIFO,
    ladder: bool,
    narrow: bool,
) -> Strategy:
    study = _study(table, seed, sampler, scheduler, ladder=ladder, narrow=narrow)
    halving = make_halving(study)
    return Strategy(
        study, OptunaSearcher(study, halving), make_scheduler(study, halving), _our_front
    )


def _peer(
    table: Table, seed: int, *, sampler: str, ladder: bool, narrow: bool, of_own: bool = False
) -> Strategy:
    """Whatever it proposes is trained for all epochs."""
    # They are an extra, and take seconds to load.
    from tests.benchmarks import peers

    study = _study(table, seed, "random", FIFO, ladder=ladder, narrow=narrow)
    peer = {"SMAC": peers.SmacSearcher, "BoTorch": peers.BotorchSearcher}[sampler]
    searcher = peer(study, seed, observes_hypervolume=ladder and not of_own)
    return Strategy(study, searcher, FIFOScheduler(), _our_front)


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
            run_id = f"{trial.trial_id} at {projection.projected_to}"
            metrics, coeff = projection.metrics(), projection.projected_to
            records.append(replace(record, run_id=run_id, metrics=metrics, variant=coeff))
    whole = StudyRecord(study.name, "", "", study, "", "", False)
    return [
        (epochs[point.first.trial_id], point.metrics[BLOCK_LIPSCHITZ_UPPER_BOUND])
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


def _stock(table: Table, seed: int, *, with_asha: bool) -> Strategy:
    searcher = stock_search(table.study, seed, space=stock_space())
    scheduler: TrialScheduler = FIFOScheduler()
    if with_asha:
        scheduler = AsyncHyperBandScheduler(
            metric=VAL_ACCURACY,
            mode="max",
            max_t=table.study.training.max_epochs,
            grace_period=MO_ASHA["grace_period"],
            reduction_factor=MO_ASHA["reduction_factor"],
        )
    return Strategy(table.study, searcher, scheduler, _stock_front, is_stock=True)


def _stock_front(run: Run) -> list[tuple[int, float]]:
    """best_trials of the Optuna study that OptunaSearch keeps."""
    searcher: Any = run.strategy.searcher
    ids = {trial.number: trial_id for trial_id, trial in searcher._ot_trials.items()}
    by_id = {trial.trial_id: trial for trial in run.trials}
    index = [o.metric for o in run.table.study.objectives].index(BLOCK_LIPSCHITZ_UPPER_BOUND)
    return [
        (by_id[ids[trial.number]].epoch, trial.values[index])
        for trial in searcher._ot_study.best_trials
    ]


def strategies(with_peers: bool) -> dict[str, Callable[[Table, int], Strategy]]:
    """Each strategy by name, from a table and a seed."""
    samplers: dict[str, Callable[..., Strategy]] = {
        name: partial(_ours, sampler=name) for name in ("random", "sobol", "tpe", "gp")
    }
    samplers["tpe, mo_asha"] = partial(_ours, sampler="tpe", scheduler=MO_ASHA)
    peers = ("SMAC", "BoTorch") if with_peers else ()
    samplers |= {name: partial(_peer, sampler=name) for name in peers}
    made: dict[str, Callable[[Table, int], Strategy]] = {
        "stock": partial(_stock, with_asha=False),
        "stock, ASHA": partial(_stock, with_asha=True),
    }
    for name, make in samplers.items():
        made[name] = partial(make, ladder=False, narrow=False)
        made[f"ladder, {name}"] = partial(make, ladder=True, narrow=False)
        made[f"ladder, narrow, {name}"] = partial(make, ladder=True, narrow=True)
    for name in peers:
        made[f"ladder, narrow, {name} of own"] = partial(
            _peer, sampler=name, ladder=True, narrow=True, of_own=True
        )
    return made


def _spread(values: Sequence[float], digits: int = 0) -> str:
    """Median and quartiles, of which some may be infinite."""
    ordered = sorted(values)
    low = statistics.median(ordered[: (len(ordered) + 1) // 2])
    high = statistics.median(ordered[len(ordered) // 2 :])
    return f"{statistics.median(ordered):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table", type=Path, nargs="?", default=TABLE)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--accuracy", type=float, default=0.8, help="of the reference point")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--epochs", type=float, default=216)
    parser.add_argument("--only", nargs="+", help="strategies that have one of these in their name")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    table = Table(arguments.table)
    reference_point = {**table.raw["reference_point"], VAL_ACCURACY: arguments.accuracy}
    table.raw = {**table.raw, "reference_point": reference_point}
    table.study = parse(table.raw, str(arguments.table))
    reference = points.reference_losses(table.study.objectives)
    trained = dominance.hypervolume(table.points(with_projections=False), reference)
    projected = dominance.hypervolume(table.points(with_projections=True), reference)
    completed = sum(row["status"] == TrialStatus.COMPLETED for row in table.rows)
    print(machine())
    print(
        f"{len(table.rows)} trainings, {completed} completed; reference point "
        f"{', '.join(f'{o.metric} {o.reference:g}' for o in table.study.objectives)}; hypervolume "
        f"of all {trained:.4f}, with projections {projected:.4f}; {arguments.seeds} seeds, "
        f"{arguments.epochs:g} epochs"
    )
    for name, make in strategies(arguments.peers).items():
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        runs = [
            Run(table, make(table, seed)).go(arguments.epochs) for seed in range(arguments.seeds)
        ]
        print(name)
        for part, target, of in (
            (_TARGET, trained, "no ladder"),
            (_TARGET_WITH_LADDER, projected, "the ladder"),
        ):
            epochs, cpu = zip(*(run.reached(part * target) for run in runs), strict=True)
            print(
                f"  {part:.0%} of the table with {of}: {_spread(epochs)} epochs, "
                f"{_spread(cpu)} s of CPU"
            )
        parts = [
            f"{_spread([run.hypervolume_after(n) / projected for run in runs], 3)} after {n:.0f}"
            for n in (*_AFTER_EPOCHS, arguments.epochs)
        ]
        print(f"  of the table with the ladder: {', '.join(parts)} epochs")
        fronts = [run.strategy.front(run) for run in runs]
        n_unreal = sum(
            epochs < table.study.training.max_epochs or not bound < 1
            for front in fronts
            for epochs, bound in front
        )
        n_trials = sum(len(run.trials) for run in runs) / len(runs)
        search_seconds = [run.search_seconds for run in runs]
        print(
            f"  not real on its front: {n_unreal} of {sum(map(len, fronts))}; {n_trials:.0f} "
            f"trials, the search took {_spread(search_seconds, 1)} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
