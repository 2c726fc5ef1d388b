from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import attacked, certified_radius, certify, read_network
from study.config.trial import EvaluationConfig, TrialConfig
from study.metrics.artifacts import TEST_RADII, read_radii
from study.trial.data.tensors import OFFSET
from study.trial.measured import attack
from study.trial.measured.attack import BrokenProofError, attacked_accuracy
from study.trial.training import Training
from tests.support.trials import TINY, save_outcome, trained


def trial(radius: float) -> TrialConfig:
    return TrialConfig(evaluation=EvaluationConfig(radius=radius))


@pytest.mark.slow
def test_a_proof_that_an_attack_breaks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With bounds of logits that claim too little; with true ones no image is both."""
    monkeypatch.setattr(attack, "N_ATTACKED", 20)
    training = Training(TINY)
    training.run_to_report()
    model, test = training.model.eval(), training.dataset.test
    certificate = certify(model)
    accuracy = attacked_accuracy(model, test, trial(1.0), certificate)
    answers = model(attack.normalized(test.images[:20])).argmax(1)
    assert accuracy < (answers == test.labels[:20]).float().mean()
    assert attacked_accuracy(model, test, trial(1e-4), certificate) >= accuracy
    bounds = [[1e-3 * bound for bound in row] for row in certificate.logit_difference_bounds]
    too_little = replace(certificate, logit_difference_bounds=tuple(map(tuple, bounds)))
    with pytest.raises(
        BrokenProofError, match=r"attacked_accuracy: test image \d+ is proven to keep"
    ):
        attacked_accuracy(model, test, trial(1.0), too_little)


@pytest.mark.slow
def test_stored_radii_count_what_is_proven_within_any_and_no_attack_does_better(
    tmp_path: Path,
) -> None:
    blocks = {"blocks": (), "dense_blocks": 4, "channel_multiplier": 1, "dropout": 0.0}
    model_config = replace(TINY.model, **blocks, head="lipschitz")
    training = trained(replace(TINY, model=model_config, evaluation=EvaluationConfig(radius=0.1)))
    save_outcome(training, tmp_path)
    accuracy = training.answers().test.certified_accuracy(0.1)
    assert 0.1 < accuracy < 0.9
    stored = torch.tensor(read_radii((tmp_path / TEST_RADII).read_bytes(), accuracy))
    # Of the stored network, anew.
    model, test = read_network(tmp_path), training.dataset.test
    images = attack.normalized(test.images).double()
    model = model.double()
    radii = certified_radius(model, images, test.labels, certify(model, "full"))
    assert len(stored) == len(radii) == len(test)
    for radius in torch.linspace(0, 1.01 * radii.max().item(), 12).tolist():
        assert (stored > radius).sum() == (radii > radius).sum()
    assert (stored > 0).sum() <= (model(images).argmax(1) == test.labels).sum()
    images, labels, stored = images[:60], test.labels[:60], stored[:60]
    left = []
    for share in (0.3, 0.6, 0.9):
        radius = stored[stored > 0].quantile(share).item()
        boxes = (None, (OFFSET, -OFFSET))
        holds = ~sum(attacked(model, images, labels, radius, box=box).found for box in boxes).bool()
        proven = stored > radius * (1 + 1e-5)
        assert proven.any()
        assert holds[proven].all()
        assert proven.sum() <= holds.sum()
        left.append(holds.sum().item())
    assert left == sorted(left, reverse=True)
