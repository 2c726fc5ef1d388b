"""Samplers of other projects, for tests.benchmarks.replay: SMAC3 and BoTorch.

Both observe either the objectives of a training's own network (ParEGO and qLogNEHVI), or one
number, the hypervolume of all networks of the training that the front admits, as this project's
samplers with a ladder do (a random forest with expected improvement, and qLogNoisyEI). They need
`pip install -e '.[peers]'`.
"""

import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from ConfigSpace import ConfigurationSpace, Float, Integer
from gpytorch.mlls import ExactMarginalLogLikelihood
from ray.tune.search import Searcher
from smac import HyperparameterOptimizationFacade, Scenario
from smac.multi_objective.parego import ParEGO
from smac.runhistory import TrialInfo, TrialValue
from torch import Tensor
from torch.quasirandom import SobolEngine

from study.config.space import FloatParameter, IntParameter, Parameter
from study.config.study import StudyConfig
from study.metrics.reports import TrialReport
from study.pareto import points
from study.search import observation
from study.search.observation import Outcome
from study.search.suggestion import Suggestion
from tests.benchmarks.trial_table import at_share

# As many as this project's samplers have.
_N_STARTUP = 10


class PeerSearcher(Searcher):
    """A sampler behind Tune's interface, whose trials complete or fail. What it is told it
    minimizes; a trial that failed counts as the worst so far."""

    def __init__(self, study: StudyConfig, seed: int, *, observes_hypervolume: bool) -> None:
        super().__init__()
        self._config, self._seed = study, seed
        self._observes_hypervolume = observes_hypervolume
        self._worst: list[float] = [0.0] if observes_hypervolume else list(self._reference)
        self._n_started = 0

    @property
    def _reference(self) -> list[float]:
        """The study's reference point, as losses."""
        return [float(loss) for loss in points.reference_losses(self._config.objectives)]

    @abstractmethod
    def ask(self, trial_id: str) -> dict[str, Any]:
        """The next sample."""

    @abstractmethod
    def tell(self, trial_id: str, losses: list[float]) -> None:
        """What a trial gave."""

    def suggest(self, trial_id: str) -> dict[str, Any]:
        number = self._n_started
        self._n_started += 1
        return asdict(Suggestion(number, self._seed, number, self.ask(trial_id)))

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        report = TrialReport.from_result(result) if result and not error else None
        outcome = observation.of_report(report, self._config)
        losses = self._worst
        if outcome is not None:
            losses = self._losses(outcome)
            self._worst = list(map(max, self._worst, losses))
        self.tell(trial_id, losses)

    def _losses(self, outcome: Outcome) -> list[float]:
        study = self._config
        if self._observes_hypervolume:
            return [-hypervolume for hypervolume in observation.values(study, [outcome])]
        (losses,) = points.scaled_losses([outcome.metrics], study.objectives)
        return [float(loss) for loss in losses]


class SmacSearcher(PeerSearcher):
    """SMAC3: a random forest, trained again for each proposal, of one loss or of those that ParEGO
    scalarizes with new weights. It knows nothing of trials that run."""

    def __init__(self, study: StudyConfig, seed: int, *, observes_hypervolume: bool) -> None:
        super().__init__(study, seed, observes_hypervolume=observes_hypervolume)
        self._folder = tempfile.TemporaryDirectory()
        space = ConfigurationSpace(seed=seed)
        space.add(*(_hyperparameter(key, parameter) for key, parameter in study.space))
        names = [objective.metric for objective in study.objectives]
        scenario = Scenario(
            space,
            output_directory=self._folder.name,
            deterministic=True,
            objectives="hypervolume" if observes_hypervolume else names,
            n_trials=study.n_trials,
            seed=seed,
        )
        facade = HyperparameterOptimizationFacade
        self._smac = facade(
            scenario,
            initial_design=facade.get_initial_design(scenario, n_configs=_N_STARTUP),
            config_selector=facade.get_config_selector(scenario, retrain_after=1),
            multi_objective_algorithm=None if observes_hypervolume else ParEGO(scenario),
            overwrite=True,
            logging_level=False,
        )
        self._running: dict[str, TrialInfo] = {}

    def ask(self, trial_id: str) -> dict[str, Any]:
        self._running[trial_id] = info = self._smac.ask()
        return {key: _plain(parameter, info.config[key]) for key, parameter in self._config.space}

    def tell(self, trial_id: str, losses: list[float]) -> None:
        cost = losses[0] if self._observes_hypervolume else losses
        self._smac.tell(self._running.pop(trial_id), TrialValue(cost=cost), save=False)


class BotorchSearcher(PeerSearcher):
    """BoTorch: a Gaussian process of each loss; what is proposed has the largest expected
    improvement, of one loss or of the hypervolume within the study's reference point, given what
    runs."""

    def __init__(self, study: StudyConfig, seed: int, *, observes_hypervolume: bool) -> None:
        super().__init__(study, seed, observes_hypervolume=observes_hypervolume)
        self._initial = SobolEngine(len(study.space), scramble=True, seed=seed)
        self._running: dict[str, Tensor] = {}
        self._places: list[Tensor] = []
        self._values: list[list[float]] = []

    def ask(self, trial_id: str) -> dict[str, Any]:
        if self._n_started <= _N_STARTUP:
            place = self._initial.draw(1, dtype=torch.float64)[0]
        else:
            place = self._proposed()
        self._running[trial_id] = place
        return {
            key: at_share(parameter, float(share))
            for (key, parameter), share in zip(self._config.space, place, strict=True)
        }

    def _proposed(self) -> Tensor:
        torch.manual_seed(self._seed * 1000 + self._n_started)
        x, y = torch.stack(self._places), torch.tensor(self._values, dtype=torch.float64)
        model = SingleTaskGP(x, y, outcome_transform=Standardize(y.shape[1]))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        given: dict[str, Any] = {
            "X_baseline": x,
            "prune_baseline": True,
            "X_pending": torch.stack(list(self._running.values())) if self._running else None,
        }
        if self._observes_hypervolume:
            acquisition: Any = qLogNoisyExpectedImprovement(model, **given)
        else:
            reference = [-loss for loss in self._reference]
            acquisition = qLogNoisyExpectedHypervolumeImprovement(
                model, ref_point=reference, **given
            )
        ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, x.shape[1])
        # In three dimensions few starts are enough.
        proposed, _ = optimize_acqf(acquisition, ends, q=1, num_restarts=4, raw_samples=128)
        return proposed[0].detach()

    def tell(self, trial_id: str, losses: list[float]) -> None:
        self._places.append(self._running.pop(trial_id))
        self._values.append([-loss for loss in losses])


def _hyperparameter(key: str, parameter: Parameter) -> Any:
    assert isinstance(parameter, FloatParameter | IntParameter)
    kind: Any = Float if isinstance(parameter, FloatParameter) else Integer
    return kind(key, (parameter.low, parameter.high), log=parameter.log)


def _plain(parameter: Parameter, value: Any) -> int | float:
    return int(value) if isinstance(parameter, IntParameter) else float(value)
