"""What came out of a study, written into MLflow: how each network stands, which are recommended and
why, and the figures of the whole."""

from collections.abc import Mapping
from datetime import UTC, datetime

from study.metrics.definitions import HYPERVOLUME, N_COMPLETED, N_FRONT
from study.metrics.reports import TrialStatus
from study.results.costs import costs
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
    volume = {} if results.hypervolume is None else {HYPERVOLUME: results.hypervolume}
    return {
        **volume,
        N_FRONT: len(results.front),
        N_COMPLETED: sum(trial.state is TrialStatus.COMPLETED for trial in results.trainings),
        **costs(results),
    }
