"""What came out of a study, written into MLflow: how each network stands, which are recommended and
why, and the figures of the whole."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from study.metrics import DEVICE_HOURS, HOURS, HYPERVOLUME, N_COMPLETED, N_FRONT, TrialStatus
from study.results.front import Results
from study.results.recommended import recommendations
from study.tracking import marks, pages
from study.tracking.marks import Marked
from study.tracking.records import Records

# The mark of a training of a sample that has been trained before: the first one has the sample's.
_REPEAT = "repeat"


def publish(results: Results, records: Records) -> None:
    """Write the results of a study that has ended, all its points and with its own objectives.

    Raises:
        TrackingError: if MLflow refuses or cannot be reached.
    """
    recommended = {one.point.first.run_id: one for one in recommendations(results)}
    networks = []
    for point in results.points:
        one = recommended.get(point.first.run_id)
        aliases, why = (one.aliases, one.sentence) if one is not None else ((), "")
        networks.append(Marked(point.first, point.mark.value, aliases, why))
        # So that as many runs have the mark as the report has rows.
        networks += [Marked(record, _REPEAT, (), "") for record in point.records[1:]]
    study = results.study
    note = pages.describe_results(
        pages.report_page(study.experiment_id, study.run_id),
        pages.front_pages(study.experiment_id),
        [
            (results.handle(one.point), " and ".join(one.aliases), one.sentence)
            for one in recommended.values()
        ],
    )
    now = datetime.now(UTC).timestamp()
    marks.write(records.client, study, networks, figures(results), note, now)


def figures(results: Results) -> Mapping[str, float]:
    """The figures of a whole study by name; a hypervolume that is not defined is left out."""
    trials = [record for point in results.points if point.is_trial for record in point.records]
    times = [(trial.started, trial.ended) for trial in trials if trial.ended is not None]
    resources = results.study.config.resources
    devices = resources.gpus or resources.cpus
    volume = {} if results.hypervolume is None else {HYPERVOLUME: results.hypervolume}
    return {
        **volume,
        N_FRONT: len(results.front),
        N_COMPLETED: sum(trial.state is TrialStatus.COMPLETED for trial in trials),
        HOURS: _seconds_covered(times) / 3600,
        DEVICE_HOURS: devices * sum(end - start for start, end in times) / 3600,
    }


def _seconds_covered(times: Sequence[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    covered, until = 0.0, float("-inf")
    for start, end in sorted(times):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered
