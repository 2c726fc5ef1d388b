"""A member of a family that was not stored, from those that were."""

from collections.abc import Mapping

from models import IResNet, member_from
from study.errors import UserError
from study.metrics.reports import TrialStatus, is_control
from study.tracking.records import Records
from study.tracking.study_record import StudyRead, TrialRecord
from study.verification.proof import load


def load_member(
    records: Records,
    study: StudyRead,
    run_id: str,
    conditions: Mapping[str, float],
    trust: bool = False,
) -> IResNet:
    """The member with these conditions of the family of which the run's network is one, as
    `proof.load` gives a stored one. What is proven of the others is not proven of it: certify it.

    Raises:
        UserError: if the network is of no family, or the conditions are others than the family's or
            out of range.
        TrackingError: as `proof.load`.
    """
    of_study = {network.run_id: network for network in study.networks}
    named, family = of_study.get(run_id), study.record.config.family
    completed = named is not None and named.state is TrialStatus.COMPLETED
    if named is None or not completed or not family or is_control(named.variant):
        names = ", ".join(conditions)
        raise UserError(f"must be of a family of {study.record.name} for {names}", key="network")
    spans = dict(family)
    middle = tuple(span.middle for span in spans.values())

    def conditions_of(network: TrialRecord) -> dict[str, float]:
        own = network.variant if isinstance(network.variant, tuple) else middle
        return dict(zip(spans, own, strict=True))

    stored = (
        (conditions_of(network), load(records, network.run_id, trust))
        for network in of_study.values()
        # One that is not completed was cut off as it was added, and may lack its files.
        if network.trial_id == named.trial_id
        and network.state is TrialStatus.COMPLETED
        and not is_control(network.variant)
    )
    try:
        return member_from(stored, spans, conditions)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
