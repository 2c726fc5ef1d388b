"""What a comparison says, in sentences: how far the studies lie apart, what the intervals cover and
what not, where each study was read."""

import shlex
from collections.abc import Iterator

from study.metrics.definitions import METRICS, VAL_ACCURACY
from study.results.comparison import Compared, Comparison, Member
from study.results.differences import Estimate, Noise
from study.tracking.pages import server_address


def summary(comparison: Comparison) -> Iterator[str]:
    """By which conditions networks were chosen, and how each study stands to the first, a sentence
    each."""
    wheres = [study.results.where for study in comparison.studies]
    if len(set(wheres)) == 1 and wheres[0]:
        yield f"Only networks with {wheres[0]}."
    elif any(wheres):
        for study, where in zip(comparison.studies, wheres, strict=True):
            yield f"Of {study.name} {f'only networks with {where}' if where else 'all networks'}."
    apart = comparison.differences
    first = comparison.studies[0].name
    for study, volume, accuracy in zip(
        comparison.studies[1:], apart.hypervolume, apart.best_accuracy, strict=True
    ):
        phrases = []
        if volume is not None:
            phrases.append(_phrase("hypervolume", volume, 1, ".3g", ""))
        if accuracy is not None:
            title = f"best {METRICS[VAL_ACCURACY].title}"
            phrases.append(_phrase(title, accuracy, 100, ".2f", " percentage points"))
        if phrases:
            yield f"{study.name} beside {first}: {'; '.join(phrases)}."


def _phrase(what: str, estimate: Estimate, unit: float, form: str, unit_text: str) -> str:
    value = unit * estimate.value
    way = "larger" if value > 0 else "smaller"
    amount = f"{abs(value):{form}}{unit_text} {way}" if value else "the same"
    within = {True: ", within the noise", False: ", beyond the noise", None: ""}
    return f"{what} {amount}{within[estimate.is_within_noise]}"


def difference_text(estimate: Estimate | None, form: str) -> str:
    """A difference with its interval; empty for None."""
    if estimate is None:
        return ""
    text = f"{estimate.value:+{form}}"
    if estimate.interval is None:
        return text
    low, high = (f"{end:+{form}}" for end in estimate.interval)
    return f"{text} ({low} to {high})"


def what_intervals_cover(comparison: Comparison) -> str:
    """What the intervals of the differences speak of, and what not."""
    apart = comparison.differences
    if apart.unsure is not None:
        return f"{apart.unsure[0].upper()}{apart.unsure[1:]}."
    if apart.noise is Noise.SEEDS:
        return (
            "95 % intervals cover the training seeds: where the difference of the same samples "
            "could lie, had each been trained with many seeds, by the spread of the repeats. They "
            "do not cover the choice of the validation images, nor another run of the search, "
            "which would try other samples."
        )
    n_images = {study.results.n_val_images for study in comparison.studies} - {None}
    number = f"{n_images.pop()} " if len(n_images) == 1 else ""
    only = "" if apart.hypervolume[0] is None or apart.hypervolume[0].interval else _NO_IMAGES
    return (
        f"95 % intervals cover the {number}validation images, which are the same for all studies: "
        "where the difference of these networks could lie on many images, the other objectives as "
        "they were measured. They do not cover other seeds of the trainings, nor another run of "
        "the search, which would try other samples. Where every study has repeats, intervals cover "
        f"the training seeds instead.{only}"
    )


_NO_IMAGES = (
    f" The hypervolume has none: {METRICS[VAL_ACCURACY].title} is none of its objectives, or a "
    "study has no network."
)


def legend(comparison: Comparison) -> Iterator[str]:
    """Where each study was read, a sentence each; nothing where that is one place."""
    if comparison.n_servers > 1:
        for study in comparison.studies:
            own = study.results.study.name
            called = "" if own == study.name else f"the study {own} "
            yield f"{study.name}: {called}in MLflow at {shown_uri(study)}"


def shown_uri(study: Compared) -> str:
    """Where a study was read, without a password."""
    uri = study.records.client.tracking_uri
    return server_address(uri) or uri


def verify_command(comparison: Comparison, member: Member) -> str:
    """What checks the proof of a network of the joint front again."""
    handle = member.study.results.handle(member.point)
    return shlex.join(["python", "-m", "study.verify", handle, *uri_option(comparison, member)])


def uri_option(comparison: Comparison, member: Member) -> list[str]:
    """--tracking-uri for a command, where it is needed: on a page or with several servers."""
    uri = member.study.records.client.tracking_uri
    needed = comparison.n_servers > 1 or server_address(uri) is not None
    return ["--tracking-uri", shown_uri(member.study)] if needed else []
