"""Tables of numbers: how they are split and standardized, and the units of what is proven."""

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine

import study
from models import certified_radius, deployed
from study.config.data import DataConfig
from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
from study.errors import ConfigError
from study.trial.data import sources
from study.trial.data.tensors import normalized
from study.trial.training import Training
from tests.support import own_code
from tests.support.trials import trained

LOADED = {"wine": load_wine, "breast_cancer": load_breast_cancer}
OWN = "tests.support.own_code:digits"


@pytest.mark.parametrize("name", LOADED)
def test_no_row_of_a_table_is_lost_and_each_split_has_its_part_of_each_class(name: str) -> None:
    dataset = sources.load(DataConfig(name))
    features, labels = LOADED[name](return_X_y=True)
    splits = (dataset.train, dataset.val, dataset.test)
    assert dataset.in_shape == (features.shape[1], 1, 1)
    assert dataset.n_classes == labels.max() + 1
    # What the network takes, and what is stored for whoever has other rows.
    by = dataset.normalization
    expected = features * np.array(by["scale"]) + np.array(by["offset"])
    rows = torch.cat([normalized(split.images).flatten(1) for split in splits])
    order, theirs = np.lexsort(rows.T.numpy()), np.lexsort(np.float32(expected).T)
    np.testing.assert_allclose(rows.numpy()[order], expected[theirs], rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.cat([s.labels for s in splits])[order], torch.tensor(labels[theirs]))
    moments = torch.std_mean(dataset.train.images, dim=0, correction=0)
    for moment, value in zip(moments, (1.0, 0.0), strict=True):
        torch.testing.assert_close(moment, torch.full_like(moment, value))
    for split in (dataset.val, dataset.test):
        for label, n in Counter(labels.tolist()).items():
            part = int((split.labels == label).sum())
            assert abs(part - n * len(split) / len(labels)) <= 1


def test_float64_images_are_no_table() -> None:
    image, features = torch.tensor([[[[0.0, 1.0]]]]).double(), torch.tensor([[[[2.0]]]]).double()
    assert normalized(image).tolist() == [[[[-0.5, 0.5]]]]
    assert normalized(features).tolist() == [[[[2.0]]]]


def test_what_is_measured_does_not_depend_on_the_number_of_training_rows() -> None:
    whole, few = sources.load(DataConfig("wine")), sources.load(DataConfig("wine", max_train=30))
    assert torch.equal(whole.val.images, few.val.images)
    assert torch.equal(whole.train.images[:30], few.train.images)
    other = sources.load(DataConfig("wine", split_seed=1))
    assert not torch.equal(whole.test.images, other.test.images)


NETWORK = TrialConfig(
    data=DataConfig("wine"),
    model=ModelConfig(
        blocks=(), dense_blocks=2, bottleneck=1, channel_multiplier=1, head="rows", rows=2
    ),
    training=TrainingConfig(
        max_epochs=10, batch_size=32, optimizer="muon", other_lr=0.1, lr_schedule="one_cycle",
        loss="margin", report_every=10,
    ),
)  # fmt: skip


@cache
def of_wine() -> Training:
    return trained(NETWORK)


def test_a_certified_radius_is_in_standardized_features() -> None:
    """Rows as they are in the file, moved by so many standard deviations, in random directions and
    along the gradient of each difference of logits."""
    training = of_wine()
    network, by = training.certified(), training.dataset.normalization
    model = deployed(network.model).double()
    scale, offset = (torch.tensor(by[key], dtype=torch.float64) for key in ("scale", "offset"))
    features, labels = map(torch.from_numpy, load_wine(return_X_y=True))
    deviations = 1 / scale

    def answers(rows: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model((rows * scale + offset).view(-1, 13, 1, 1))
        return logits

    images = (features * scale + offset).view(-1, 13, 1, 1)
    radii = certified_radius(network.model, images, labels, network.certificate)
    known = radii > 0
    assert known.float().mean() > 0.9
    assert radii.median() > 0.5
    features, labels, radii = features[known], labels[known], radii[known]
    rows = features.clone().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    ways = list(torch.randn(200, len(rows), 13, dtype=torch.float64, generator=generator))
    for rival in range(3):
        logits = answers(rows)
        margin = logits.gather(1, labels[:, None]).squeeze(1) - logits[:, rival]
        (slope,) = torch.autograd.grad(margin.sum(), rows)
        ways.append(-slope * deviations)
    reached = torch.full_like(radii, torch.inf)
    for way in ways:
        way = way / way.norm(dim=1, keepdim=True).clamp(min=1e-300)
        for share in (0.5, 0.999, 1.5, 2.0, 4.0):
            moved = features + share * radii[:, None] * way * deviations
            changed = answers(moved).argmax(dim=1) != labels
            reached = torch.where(changed, reached.clamp(max=share), reached)
    assert (reached > 1).all()
    # In other units it would be far off: most answers change within a few radii.
    assert (reached <= 4).float().mean() > 0.5


def blobs(n: int) -> Any:
    """Two features of very different units, and one that is the same everywhere."""
    generator = np.random.default_rng(0)
    labels = np.arange(n) % 2
    centers = np.array([[1e3, 1e-3], [3e3, 2e-3]])[labels]
    features = centers + generator.normal(size=(n, 2)) * [500, 3e-4]
    return study.Dataset(np.c_[features, np.full(n, 0.1)], labels, 2)


def test_a_table_of_the_users_own_is_standardized_and_certified_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No certified row changes its answer anywhere on a grid of the disk within its radius."""
    monkeypatch.setattr(own_code, "digits", lambda root: blobs(200))
    sources.load.cache_clear()
    config = DataConfig(OWN, table=True)
    training = trained(replace(NETWORK, data=config))
    assert config.unit == "standardized features"
    assert training.config.radius == 0.5
    network, val = training.certified(), training.dataset.val
    assert training.dataset.in_shape == (3, 1, 1)
    assert val.images[:, 2].abs().max() < 1e-9
    model, images = deployed(network.model).double(), normalized(val.images).double()
    radii = certified_radius(network.model, images, val.labels, network.certificate)
    certified = radii > 0.1
    assert certified.float().mean() > 0.8
    angles, parts = torch.arange(0, 2 * torch.pi, 0.05), torch.linspace(0, 1, 20) * (1 - 1e-6)
    disk = torch.stack([angles.cos(), angles.sin(), 0 * angles], dim=1).double()
    disk = (disk[:, None] * parts[None, :, None]).view(-1, 3, 1, 1)
    for image, label, radius in zip(
        images[certified], val.labels[certified], radii[certified], strict=True
    ):
        assert (model(image + radius * disk).argmax(dim=1) == label).all()


class Rows:
    """A map-style data set of rows."""

    def __getitem__(self, index: int) -> Any:
        return np.array([index, index**2], dtype=np.float32), index % 2

    def __len__(self) -> int:
        return 40


def test_map_style_data_may_have_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "digits", lambda root: (Rows(), Rows()))
    sources.load.cache_clear()
    dataset = sources.load(DataConfig(OWN, table=True))
    assert dataset.in_shape == (2, 1, 1)
    assert len(dataset.test) == 40


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "wine", "shift": 1}, r"shift: must be left out with a table .* but got 1"),
        ({"name": "wine", "rotate": 5.0}, r"rotate: must be left out with a table .* got 5\.0"),
        ({"name": OWN, "table": True, "flip": True}, r"flip: must be left out with a table"),
        ({"name": "breast_cancer", "size": 8}, r"size: must be left out with a table"),
        ({"name": "digits", "table": True}, "table: must be left out unless name is module:func"),
    ],
)
def test_tables_are_not_augmented(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        DataConfig(**given)
    assert "\n" not in str(error.value)
    DataConfig("wine", shift=0, rotate=0.0, flip=False)


@pytest.mark.parametrize(
    ("data", "table", "message"),
    [
        (blobs(20), False, r"data\.table: must be true for rows \(N, F\) alone, but got False"),
        (own_code.digits(""), True, r"data\.table: must be true for rows .* but got True"),
        (replace(blobs(20), pixel_range=(0, 1)), True, "must have no pixel_range"),
        (study.Dataset(np.full((20, 2), np.nan), np.arange(20) % 2, 2), True, "are nan to nan"),
        (study.Dataset(np.full((20, 2), 1e300), np.arange(20) % 2, 2), True, "pixels of images"),
    ],
)  # fmt: skip
def test_a_table_that_breaks_a_rule_is_refused_in_a_line(
    data: Any, table: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_code, "digits", lambda root: data)
    with pytest.raises(ConfigError, match=message) as error:
        sources.load.__wrapped__(DataConfig(OWN, table=table))
    assert "\n" not in str(error.value)
