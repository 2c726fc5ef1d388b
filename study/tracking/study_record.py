"""A study and its networks, as MLflow knows them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from study.config.space import Value
from study.config.study import StudyConfig
from study.metrics.reports import CONTROL, TrialStatus, Variant, is_control


@dataclass(frozen=True)
class StudyRecord:
    """A study as MLflow knows it.

    Attributes:
        name: of its experiment, under which it is found; its stored settings may have another.
        source: path of the study file.
        storage: folder or bucket where Tune keeps its state.
        finished: whether it has ended; if not, it can be resumed.
        n_searches: how often more samples or hours were asked for, which voids an earlier end.
        commit: git commit of the code that began it; None if that was not a clone.
        is_clean: whether the code was exactly that commit's.
        versions: of Python and the packages that numbers depend on.
        is_told: whether its networks were trained by its user's own loop.
        own_code: module of the user's own code -> SHA-256, hex, of its file as the study began.
        is_published: whether marks, recommendations and figures of its end are in MLflow.
        end_of_search: why it ended before its last possible trial; None if it did not.
        hours: of its trials when it last ended; 0 before that.
    """

    name: str
    experiment_id: str
    run_id: str
    config: StudyConfig
    source: str
    storage: str
    finished: bool
    n_searches: int = 0
    commit: str | None = None
    is_clean: bool = True
    versions: Mapping[str, str] = field(default_factory=dict)
    is_told: bool = False
    own_code: Mapping[str, str] = field(default_factory=dict)
    is_published: bool = False
    end_of_search: str | None = None
    hours: float = 0.0


@dataclass(frozen=True)
class TrialRecord:
    """A trial's network, or a projection of it or a member of its family, as MLflow knows it.

    Attributes:
        params: as text; a projection has its training's, and what it was projected to.
        metrics: the last value of each; impossible values, which somebody else wrote, are left out.
        repeat_of: id of the first trial of the same sample; its own for the first.
        origin: "given" for a sample of search.first, "told" for a network that its user trained;
            otherwise empty.
        variant: which of its trial's networks it is; None for the trial's own.
        n_epochs: epochs trained so far; 0 for a projection, which adds none.
        started: when its run was created, seconds since 1970-01-01 UTC.
        ended: when it ended, in the same unit; None while it runs.
        mark: how it stood in the results when its study last ended; None before that.
        aliases: what it was recommended as then.
        why: a sentence that justifies the recommendation.
        device: name of the processor or GPU that trained; None if unknown.
    """

    trial_id: str
    run_id: str
    state: TrialStatus
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    sample: Mapping[str, Value]
    repeat_of: str
    variant: Variant = None
    reason: str | None = None
    n_epochs: int = 0
    started: float = 0.0
    ended: float | None = None
    mark: str | None = None
    aliases: tuple[str, ...] = ()
    why: str = ""
    device: str | None = None
    origin: str = ""

    @property
    def projected_to(self) -> float | None:
        """The bound of Lip(g) of a projection's blocks, CONTROL for a control; None for other
        networks."""
        if is_control(self.variant):
            return CONTROL
        return self.variant if isinstance(self.variant, float) else None


@dataclass(frozen=True)
class StudyRead:
    """A study as MLflow had it at one moment.

    Attributes:
        record: the study itself.
        networks: its trials by id, each followed by its projections, largest bound first, or by its
            members.
    """

    record: StudyRecord
    networks: tuple[TrialRecord, ...]

    @property
    def states(self) -> list[TrialStatus]:
        """The state of each trial, by trial id."""
        return [network.state for network in self.networks if network.variant is None]
