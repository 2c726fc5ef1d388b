from dataclasses import replace
from typing import Any

import pytest

from study.trial import rehearsal
from study.trial.measured.network_files import Certified
from study.trial.rehearsal import measured
from study.trial.training import Training
from tests.support.trials import TINY


def test_a_trial_is_rehearsed_without_training_it() -> None:
    found = measured(TINY, 1, on_gpu=False)
    model = Training(TINY).model
    assert found.n_parameters == sum(p.numel() for p in model.parameters())
    longer = replace(TINY, training=replace(TINY.training, max_epochs=1000))
    assert 0 < found.seconds < measured(longer, 1, on_gpu=False).seconds


sizes: list[int] = []


def seen(_: Any, images: Any, *__: Any) -> float:
    """A metric of the user's own, which notes how many images it is given."""
    sizes.append(len(images))
    return 0.0


def test_the_answers_of_a_large_split_are_timed_on_a_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time for them is that for the part, times as many images as there are; a metric of the
    user's own is given the whole split."""
    monkeypatch.setattr(rehearsal, "BATCH_SIZE", 20)
    clock = iter(range(100))
    monkeypatch.setattr(rehearsal, "_now", lambda _: next(clock))
    config = replace(TINY, metrics=(("seen", f"{__name__}:seen"),))
    training = Training(config)
    certified = Certified.of(training.model.eval(), "fast")
    sizes.clear()
    found = rehearsal._seconds_of_measuring(training, certified)
    n_val = len(training.dataset.val)
    assert sizes == [n_val]
    # Each of the three took a second by that clock, of which the answers were asked of 32 images.
    assert found == pytest.approx(1 + (n_val / 32 - 1) + 1)
