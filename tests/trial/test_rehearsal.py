from dataclasses import replace

from study.trial.rehearsal import measured
from study.trial.training import Training
from tests.trial.test_training import TINY


def test_a_trial_is_rehearsed_without_training_it() -> None:
    found = measured(TINY, 1, on_gpu=False)
    model = Training(TINY).model
    assert found.n_parameters == sum(p.numel() for p in model.parameters())
    longer = replace(TINY, training=replace(TINY.training, max_epochs=1000))
    assert 0 < found.seconds < measured(longer, 1, on_gpu=False).seconds
