"""How long a trial would take, measured in a few steps."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from study.config.trial import TrialConfig
from study.trial.measured.evaluation import BATCH_SIZE, evaluate, measure
from study.trial.measured.network_files import Certified
from study.trial.measured.own import measure_own
from study.trial.state_file import state_bytes
from study.trial.training import Training

_Result = TypeVar("_Result")

# Numbers of training steps: those that warm up, and those that are timed.
_N_WARM, _N_TIMED = 2, 5


@dataclass(frozen=True)
class Rehearsal:
    """The cost of a trial with the device to itself, from a few steps and one measurement."""

    n_parameters: int
    seconds: float
    """An estimate of the wall-clock time of the whole trial with its ladder."""
    n_reports: int
    """Reports of the trial, without those of its projections."""
    checkpoint_bytes: int
    """Size of the state of the training, which each checkpoint holds."""


def measured(config: TrialConfig, n_threads: int, on_gpu: bool) -> Rehearsal:
    """Train a few steps of a trial and measure its network on a part of the validation split. torch
    uses n_threads, as many as a trial has, and with on_gpu the GPU, if there is one here."""
    torch.set_num_threads(n_threads)
    training = Training(config, "cuda" if on_gpu and torch.cuda.is_available() else "cpu")
    network = copy.deepcopy(training.model)
    training.fine_tune(network, _N_WARM, seed=0)
    of_steps, _ = _timed(training, lambda: training.fine_tune(network, _N_TIMED, seed=0))
    step_seconds = of_steps / _N_TIMED
    network.eval()
    fast_seconds, _ = _timed(training, lambda: Certified.of(network, "fast"))
    full_seconds, certified = _timed(training, lambda: Certified.of(network, "full"))
    measuring_seconds = _seconds_of_measuring(training, certified)
    report_seconds = fast_seconds + measuring_seconds
    # Of the last report, and of each rung or member. Doubled, since a projection certifies too.
    proof_seconds = 2 * (full_seconds + measuring_seconds)
    settings = config.training
    n_steps = settings.max_epochs * math.ceil(len(training.dataset.train) / settings.batch_size)
    n_steps += len(config.ladder) * config.fine_tune_steps
    n_reports = math.ceil(settings.max_epochs / settings.report_every)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    seconds = n_steps * step_seconds + n_reports * report_seconds
    seconds += (1 + len(config.ladder) + config.members) * proof_seconds
    return Rehearsal(n_parameters, seconds, n_reports, len(state_bytes(training.state_dict())))


def _seconds_of_measuring(training: Training, certified: Certified) -> float:
    """Estimate of the seconds that it takes to measure a network on the validation split. Only a
    part of the split is classified: on all of MNIST's, a large network takes a minute."""
    config, val = training.config, training.dataset.val
    model, proof = certified.model, certified.certificate
    part = val[: max(BATCH_SIZE, config.evaluation.n_inverse_samples)]
    without_own = replace(config, metrics=())
    of_part, _ = _timed(training, lambda: measure(model, part, without_own, proof))
    of_answers, _ = _timed(training, lambda: evaluate(model, part, config.precision, proof))
    of_own, _ = _timed(training, lambda: measure_own(model, val, config, proof))
    return of_part + (len(val) / len(part) - 1) * of_answers + of_own


def _timed(training: Training, call: Callable[[], _Result]) -> tuple[float, _Result]:
    """Returns (seconds, result): how long a call takes; what it returns."""
    start = _now(training)
    result = call()
    return _now(training) - start, result


def _now(training: Training) -> float:
    """The time in seconds, taken once the device has finished its work."""
    if training.device.type == "cuda":
        torch.cuda.synchronize(training.device)
    return time.perf_counter()
