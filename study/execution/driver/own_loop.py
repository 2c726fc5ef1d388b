"""A study whose networks are trained by its user, who asks it for samples and hands back the
trained networks."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models import IResNet
from study.config.file import Asked
from study.config.space import Value
from study.config.trial import TrialConfig
from study.errors import ConfigError, LaunchError
from study.execution.driver.environment import Driver
from study.execution.driver.planning import plan_new
from study.execution.files import storage
from study.execution.provenance import own_code, provenance
from study.metrics.artifacts import OUTCOME
from study.metrics.reports import TrialStatus
from study.search.searcher import OptunaSearcher
from study.search.suggestion import Suggestion
from study.tracking import studies, tags
from study.tracking.study_record import StudyRead
from study.tracking.tracker import Tracker
from study.trial.data import sources
from study.trial.data.tensors import Dataset
from study.trial.ladder import save_outcome, with_projections
from study.trial.training import Training


@dataclass(frozen=True)
class OwnTrial:
    """A sample that the user asked for, to train its network.

    Attributes:
        config: all its settings; the user need not follow those of `training`.
        network: the network to train, with its initial weights.
    """

    trial_id: str
    sample: Mapping[str, Value]
    config: TrialConfig
    network: IResNet


class Loop:
    """A study whose user trains its networks; see `study.loop`.

    Attributes:
        name: of the study.
        dataset: its images, split. `study.normalized` turns them into a network's input.
    """

    def __init__(self, driver: Driver, asked: Asked, storage_folder: str) -> None:
        self._config = asked.config
        self.name = asked.config.name
        self.dataset: Dataset = sources.load(asked.config.data)
        self._searcher = OptunaSearcher(asked.config)
        of_each = {**provenance(), tags.TOLD: "true"}
        of_run = {**of_each, **own_code(asked.config)}
        self._records, client = driver.records, driver.client
        self._record = studies.create(client, asked.config, asked.source, storage_folder, of_run)
        self._tracker = Tracker(client, self._record, of_each)
        self._open: dict[str, Training] = {}
        self._n_asked = 0

    def ask(self) -> OwnTrial | None:
        """The next sample; None once all of search.n_trials have been asked for."""
        proposed = self._searcher.suggest(str(self._n_asked))
        if not isinstance(proposed, dict):
            return None
        suggestion = Suggestion(**proposed)
        trial_id = suggestion.trial_id
        config = self._config.resolve(suggestion.sample, suggestion.seed)
        self._n_asked += 1
        self._tracker.start_trial(trial_id, suggestion.sample, config, is_given=suggestion.is_given)
        training = Training(config, dataset=self.dataset)
        self._open[trial_id] = training
        return OwnTrial(trial_id, suggestion.sample, config, training.model)

    def tell(self, trial: OwnTrial, *, failed: str | None = None) -> Mapping[str, float]:
        """Measure, certify and record a trial's network, as it is now, and its projections; or,
        given a reason in `failed`, record that the trial failed. Returns the metrics, if any.

        Raises:
            LaunchError: if the trial was told before, or is not of this study.
        """
        training = self._open.get(trial.trial_id)
        if training is None or training.model is not trial.network:
            raise LaunchError("must be one that was asked for, and told once", "trial")
        report = training.failed(failed) if failed is not None else training.completed()
        report, rungs = with_projections(training, report)
        if report.epoch is not None:
            self._tracker.log_reports(trial.trial_id, [report.epoch])
        if report.status is TrialStatus.COMPLETED:
            with tempfile.TemporaryDirectory() as temporary:
                outcome = Path(temporary) / OUTCOME
                save_outcome(outcome, training, rungs)
                self._tracker.log_networks(trial.trial_id, outcome, report.projections)
        self._tracker.end_trial(trial.trial_id, report.status, report.reason)
        del self._open[trial.trial_id]
        # The id given to `suggest`: without repeats, `_n_asked` and trial numbers count alike.
        self._searcher.on_trial_complete(str(int(trial.trial_id)), report.to_result())
        return {} if report.epoch is None else report.epoch.metrics()

    def _close(self, status: TrialStatus) -> StudyRead:
        """End the study, and mark untold trials as interrupted; returns the study as it is then."""
        for trial_id in self._open:
            self._tracker.end_trial(trial_id, TrialStatus.INTERRUPTED)
        return studies.close(self._records.client, self._records.read(self._record), status)


@contextmanager
def opened(driver: Driver, asked: Asked, publish: Callable[[StudyRead], object]) -> Iterator[Loop]:
    """Open a new study whose networks its user trains. It ends with the context, and is then given
    to `publish` unless the context raised. Raises UserError if the study cannot begin."""
    config = asked.config
    # With same_up_to a sample would have to wait for results, which come in any order here.
    same_up_to = config.search.same_up_to
    refused = {"callbacks": config.callbacks, "family": config.family}
    for key, given in {**refused, "search.same_up_to": same_up_to}.items():
        if given:
            raise ConfigError("must be left out of a loop of one's own", key)
    if config.search.repeats > 1:
        rule = "must be 1 in a loop of one's own"
        raise ConfigError(rule, "search.repeats", config.search.repeats)
    asked = plan_new(driver, asked)
    folder = driver.folder(asked.config.name)
    with storage.new_folder(folder):
        loop = Loop(driver, asked, folder)
    try:
        yield loop
    except BaseException:
        loop._close(TrialStatus.INTERRUPTED)
        raise
    publish(loop._close(TrialStatus.COMPLETED))
