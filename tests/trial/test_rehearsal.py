from dataclasses import replace

from study.trial.rehearsal import rehearse
from study.trial.training import Training
from tests.trial.test_training import TINY


def test_a_trial_is_rehearsed_without_training_it() -> None:
    found = rehearse(TINY, 1, on_gpu=False)
    model = Training(TINY).model
    assert found.n_parameters == sum(p.numel() for p in model.parameters())
    longer = replace(TINY, training=replace(TINY.training, max_epochs=1000))
    assert 0 < found.seconds < rehearse(longer, 1, on_gpu=False).seconds
