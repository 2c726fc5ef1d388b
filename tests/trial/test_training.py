import copy
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from models import IResNet, certify, read_network
from models.network import column_block
from study.config.data import DataConfig
from study.config.trial import EvaluationConfig, ModelConfig, TrainingConfig, TrialConfig
from study.errors import ConfigError
from study.metrics.reports import TrialReport, TrialStatus
from study.trial import training
from study.trial.check import check
from study.trial.data import sources
from study.trial.data import tensors as data
from study.trial.measured import evaluation
from study.trial.measured.evaluation import inverse_curve, measure_inverse
from study.trial.measured.network_files import Certified
from study.trial.optimizers import fine_tune_lr_factor, lr_factor
from study.trial.state_file import read_state, state_bytes
from study.trial.training import Training
from tests.support.networks import enlarge
from tests.support.trials import TINY, epoch_of, failure_of, save_outcome, train, trained

BRIEF = replace(TINY, training=replace(TINY.training, max_epochs=1))


def untimed(reports: list[TrialReport]) -> list[dict[str, Any]]:
    of_epochs = (replace(epoch_of(r), timestamp=0.0, epoch_seconds=0.0) for r in reports)
    return [replace(r, epoch=e).to_result() for r, e in zip(reports, of_epochs, strict=True)]


def test_the_same_seed_gives_the_same_numbers_whatever_the_global_state() -> None:
    config = replace(TINY, training=replace(TINY.training, max_epochs=2))
    first = list(train(config))
    torch.manual_seed(999)
    before = torch.random.get_rng_state()
    second = list(train(config))
    assert torch.equal(torch.random.get_rng_state(), before)  # and none is left behind
    assert untimed(first) == untimed(second)
    assert untimed(first) != untimed(list(train(replace(config, seed=4))))


def test_a_classifier_that_starts_from_images_starts_alike_whatever_the_global_state() -> None:
    model = ModelConfig(blocks=(), dense_blocks=2, channel_multiplier=1, head="rows", dropout=0.5)
    starts = []
    for seed in range(2):
        torch.manual_seed(seed)
        made = Training(replace(TINY, model=model))
        assert made.model.training
        starts.append(made.model.classifier[-1].weight.detach().clone())
    assert torch.equal(*starts)


def test_every_seed_that_a_study_may_have_is_one() -> None:
    largest = replace(TINY, seed=(2**31 - 1) * 100_000 + 99_999)
    trained(replace(largest, training=BRIEF.training))


OWN_BLOCK = ModelConfig(blocks=(1,), block="tests.support.own_code:Coupling", head="lipschitz")


@pytest.mark.parametrize(
    "trial",
    [
        TINY,
        replace(TINY, training=replace(TINY.training, optimizer="muon")),
        replace(TINY, model=OWN_BLOCK, data=DataConfig(max_train=64)),
    ],
    ids=["sgd", "muon", "own block"],
)
def test_a_training_goes_on_from_its_state_as_if_never_interrupted(
    trial: TrialConfig, tmp_path: Path
) -> None:
    unbroken = list(train(trial))
    broken = Training(trial)
    reports = [broken.run_to_report()]
    (tmp_path / "state").write_bytes(state_bytes(broken.state_dict()))
    torch.manual_seed(77)
    restored = Training(trial)
    restored.load_state_dict(read_state(tmp_path / "state"))
    while restored.status is TrialStatus.RUNNING:
        reports.append(restored.run_to_report())
    assert untimed(reports) == untimed(unbroken)


def test_a_completed_network_is_certified_in_full_once_and_anew_after_a_restore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    efforts: list[str] = []
    of = Certified.of

    def counted(model: IResNet, effort: Any = "full") -> Certified:
        efforts.append(effort)
        return of(model, effort)

    monkeypatch.setattr(Certified, "of", counted)
    first, second = trained(TINY), trained(replace(TINY, seed=1))
    first.certified()
    second.certified()
    assert efforts == [*(["fast"] * (TINY.training.max_epochs - 1)), "full"] * 2
    bounds = of(first.model).certificate.block_bounds
    assert first.certified().certificate.block_bounds == bounds
    assert second.certified().certificate.block_bounds != bounds
    second.load_state_dict(first.state_dict())
    assert second.certified().certificate.block_bounds == bounds


def test_reports_come_each_epoch_and_test_data_is_read_once_at_the_end() -> None:
    """Those that report_every skips apart; the last is reported always."""
    settings = replace(TINY.training, max_epochs=5, report_every=2)
    reports = list(train(replace(TINY, training=settings)))
    assert [r.status for r in reports] == [TrialStatus.RUNNING] * 2 + [TrialStatus.COMPLETED]
    epochs = list(map(epoch_of, reports))
    assert [epoch.epoch for epoch in epochs] == [2, 4, 5]
    assert [epoch.test_accuracy is not None for epoch in epochs] == [False, False, True]
    assert [epoch.test_certified_accuracy is not None for epoch in epochs] == [False, False, True]


@pytest.mark.slow
def test_it_learns() -> None:
    """Far above the one in ten of chance, after five epochs on the digits."""
    config = replace(
        TINY,
        data=replace(TINY.data, shift=0),
        model=ModelConfig(blocks=(1, 1, 1), channel_multiplier=4, dropout=0.0),
        training=TrainingConfig(
            max_epochs=5, batch_size=64, lr=0.2, lr_schedule="one_cycle", report_every=5
        ),
    )
    last = epoch_of(list(train(config))[-1])
    assert last.val_accuracy > 0.9
    assert last.block_lipschitz_upper_bound < 1


def test_a_run_that_diverges_fails_at_once_with_the_reason() -> None:
    config = replace(
        TINY,
        model=replace(TINY.model, norm="none"),
        training=replace(TINY.training, lr=1e30, max_epochs=50),
    )
    (report,) = train(config)
    assert failure_of(report).startswith("diverged: train_loss is nan in epoch 1")


# Dense blocks, which a reversible training inverts.
DENSE = replace(
    BRIEF,
    model=ModelConfig(
        blocks=(), dense_blocks=4, head="lipschitz", coeff=0.4, channel_multiplier=1, dropout=0.0
    ),
    training=replace(BRIEF.training, optimizer="muon", reversible=True),
)


def test_a_reversible_training_is_the_same_training() -> None:
    config = replace(DENSE, model=replace(DENSE.model, dropout=0.2))
    plain = replace(config, training=replace(config.training, reversible=False))
    ours, theirs = (epoch_of(*train(each)) for each in (config, plain))
    assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
    assert ours.certified_accuracy == pytest.approx(theirs.certified_accuracy, abs=0.01)


def test_a_reversible_training_fails_where_images_do_not_come_back() -> None:
    settings = replace(DENSE.training, precision="bf16")
    (report,) = train(replace(DENSE, model=replace(DENSE.model, coeff=0.99), training=settings))
    reason = failure_of(report)
    assert reason.startswith("training.reversible, in epoch 1: images must come back through")


def test_auto_trains_reversibly_where_maps_would_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        column_block.ColumnBlock, "invert_", inverted := Mock(side_effect=KeyError("inverted"))
    )
    auto = replace(DENSE, training=replace(DENSE.training, reversible="auto"))
    # In each of 4 blocks 64 numbers and 64 / 4 inner ones, of 128 images, 4 bytes each.
    bytes_kept = 4 * (64 + 64 // auto.model.bottleneck) * 128 * 4
    monkeypatch.setattr(training, "memory_bytes", lambda device: 4 * bytes_kept)
    list(train(auto))
    inverted.assert_not_called()
    monkeypatch.setattr(training, "memory_bytes", lambda device: 4 * bytes_kept - 1)
    with pytest.raises(KeyError, match="inverted"):
        list(train(auto))


def test_a_report_whose_objective_is_not_finite_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "measure_inverse", lambda *_: (5.0, math.inf, 0.1))
    named = replace(TINY, objectives=("val_accuracy", "reconstruction_error"))
    (report,) = train(named)
    assert failure_of(report) == "reconstruction_error is inf after epoch 1"
    # Where it is no objective it is a visible outcome.
    (visible,) = train(BRIEF)
    assert visible.status is TrialStatus.COMPLETED
    assert epoch_of(visible).reconstruction_error == math.inf


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # The paper's, of 200 epochs: times 0.2 after 60, 120 and 160 (appendix A).
        ({}, {0: 1, 59: 1, 60: 0.2, 119: 0.2, 120: 0.04, 159: 0.04, 160: 0.008}),
        # Warms up linearly and decays by half a cosine.
        ({"warmup_fraction": 0.2}, {0: 0, 20: 0.5, 40: 1, 120: 0.5, 200: 0}),
        ({"warmup_fraction": 0.0}, {0: 1, 100: 0.5, 200: 0}),
    ],
)
def test_learning_rates_follow_their_schedule(
    settings: dict[str, float], expected: dict[int, float]
) -> None:
    schedule: Any = "one_cycle" if settings else "step"
    config = TrainingConfig(lr_schedule=schedule, **settings)  # type: ignore[arg-type]
    for epoch, factor in expected.items():
        assert lr_factor(config, epoch / 200) == pytest.approx(factor, abs=1e-12)
    # Fine-tuning: half a cosine from 0.4 down.
    assert [fine_tune_lr_factor(step, 4) / 0.4 for step in (0, 2, 4)] == pytest.approx([1, 0.5, 0])


def test_inverse_steps_count_max_steps_where_it_does_not_converge() -> None:
    wide = ModelConfig(blocks=(1,), channel_multiplier=8, bottleneck=1, norm="none")
    model = Training(replace(TINY, model=wide)).model
    enlarge(model, 30)
    images = data.normalized(sources.load(TINY.data).val.images[:8])
    certificate = certify(model.eval())
    settings = EvaluationConfig(inverse_rtol=1e-6, inverse_max_steps=25)
    steps, error, _ = measure_inverse(model, images, certificate, settings)
    assert steps == 25
    assert error == math.inf or error > 1


def test_the_curve_is_that_of_one_inverse_for_each_number_of_steps() -> None:
    state = Training(TINY)
    state.run_to_report()
    model = state.model.eval()
    images = data.normalized(state.dataset.val.images[:6])
    errors = inverse_curve(model, certify(model), images)["reconstruction_error"]
    with torch.no_grad():
        z = model.features(images)
    for n_steps in (1, 2, 3, 6):
        x = model.inverse(z, rtol=0.0, max_steps=n_steps).last_iterate
        one = ((x - images).flatten(1).norm(dim=1) / images.flatten(1).norm(dim=1)).mean().item()
        assert errors[n_steps - 1] == pytest.approx(one, rel=0.05, abs=3e-8)


def test_bf16_trains_and_is_certified_in_full_precision() -> None:
    half = replace(BRIEF, training=replace(BRIEF.training, precision="bf16"))
    reports = list(train(half))
    assert untimed(reports) == untimed(list(train(half)))
    assert untimed(reports) != untimed(list(train(BRIEF)))
    last = epoch_of(reports[-1])
    assert last.block_lipschitz_upper_bound < 1
    assert last.reconstruction_error < 1e-6


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_a_compiled_training_is_the_same_training() -> None:
    """Without dropout, whose masks a compiled network draws in another order."""
    data = replace(BRIEF.data, max_train=2 * BRIEF.training.batch_size)
    config = replace(BRIEF, data=data, model=replace(TINY.model, blocks=(1,), dropout=0.0))
    faster = replace(config, training=replace(config.training, compile=True))
    plain, compiled = (epoch_of(*train(each)) for each in (config, faster))
    assert compiled.train_loss == pytest.approx(plain.train_loss, rel=1e-3)
    expected = plain.block_lipschitz_upper_bound
    assert compiled.block_lipschitz_upper_bound == pytest.approx(expected, rel=1e-2)


def test_what_cannot_be_trained_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check(TINY)
    with pytest.raises(ConfigError, match="multiples of 16, but got 8 x 8"):
        check(replace(TINY, model=replace(TINY.model, blocks=(1, 1, 1, 1, 1))))
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled = replace(TINY, training=replace(TINY.training, compile=True))
    with pytest.raises(ConfigError, match="must be on the PATH, but got no no-such-compiler"):
        check(compiled)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_bits_twice_and_what_the_cpu_gives() -> None:
    one, two = list(train(TINY, "cuda")), list(train(TINY, "cuda"))
    assert untimed(one) == untimed(two)
    state = Training(TINY, "cuda")
    state.run_to_report()
    model = state.model.eval()
    on_cpu = certify(copy.deepcopy(model).cpu())
    for here, there in zip(certify(model).layers, on_cpu.layers, strict=True):
        assert here.upper_bound == pytest.approx(there.upper_bound, rel=1e-6)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_what_a_completed_trial_leaves_is_enough_to_rebuild_it(device: str, tmp_path: Path) -> None:
    """Its certificate too, on the CPU, where sigma has other last bits than on a GPU."""
    state = Training(BRIEF, device)
    state.run_to_report()
    save_outcome(state, tmp_path)
    model = read_network(tmp_path)
    assert not model.training
    if device == "cpu":
        images = data.normalized(state.dataset.test.images[:16])
        with torch.no_grad():
            assert torch.equal(model(images), state.model(images))
    stored, inverse = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("certificate", "inverse")
    )
    sampled = stored.pop("empirical_lipschitz")
    certificate, splits = certify(model, "full"), state.answers()
    for key, answers in (("on_validation_split", splits.val), ("on_test_split", splits.test)):
        curve = stored.pop(key)
        assert curve["n_images"] == len(answers.right)
        assert curve["certified_accuracy"][0] <= answers.accuracy
    assert stored == json.loads(json.dumps(certificate.to_dict()))
    assert all(0 < a <= b for a, b in zip(sampled, certificate.block_bounds, strict=True))
    assert inverse["n_steps"][0] == 1
    steps = zip(inverse["needed_steps_max"], inverse["predicted_steps"], strict=True)
    assert all(needed <= predicted + 1 for needed, predicted in steps)
    assert 0 < inverse["error_bound"] < 1e-3
