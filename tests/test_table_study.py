"""A study of a table of numbers, in a loop of its user's own: its page and its verification."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn.functional import cross_entropy

import study
from models import IResNet
from study import launch, report, verify
from study.trial.data.tensors import Split
from tests.support.commands import printed, refused
from tests.support.report_page import content_of

WINE = {
    "name": "wine",
    "data": {"name": "wine", "val_fraction": 0.2},
    "model": {
        "blocks": [], "dense_blocks": 4, "bottleneck": 1, "channel_multiplier": 1, "head": "rows",
    },
    "training": {"max_epochs": 4, "batch_size": 32, "optimizer": "muon", "loss": "margin"},
    "space": {"coeff": {"type": "float", "low": 0.1, "high": 0.5}},
    "objectives": {"certified_accuracy": "maximize", "median_radius": "maximize"},
    "search": {"sampler": "random", "n_trials": 1, "control": True},
}  # fmt: skip


def train(network: IResNet, split: Split) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    network.train()
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(network(study.normalized(split.images)), split.labels).backward()
        optimizer.step()
        network.update_spectral_norm()


@pytest.mark.usefixtures("laid_out")
def test_a_study_of_wine_is_certified_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with study.loop(WINE) as loop:
        trial = loop.ask()
        assert trial is not None
        train(trial.network, loop.dataset.train)
        loop.tell(trial)
    store = ("--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db")
    out = printed(verify.app, "wine/0000", *store, "--data-root", str(tmp_path))
    assert "measured again at radius 0.5 (l2, standardized features) in float64, on wine" in out
    printed(report.app, "wine", *store, "--html", str(tmp_path / "page.html"))
    page = content_of((tmp_path / "page.html").read_text())
    assert {one["unit"] for one in page["networks"]} == {"standardized features"}
    text = json.dumps(page)
    assert "(l2, standardized features) alters it" in text
    assert "pixels" not in text.replace("largest_pixel_error", "")
    table = printed(report.app, "wine", *store)
    (row,) = (line for line in table.splitlines() if line.startswith("wine/0000 "))
    assert float(row.split()[2]) > 0.5


def test_a_table_has_nothing_to_shift(tmp_path: Path) -> None:
    path = tmp_path / "wine.yaml"
    path.write_text(yaml.safe_dump({**WINE, "data": {"name": "wine", "shift": 1}}))
    rule = "data.shift: must be left out with a table of numbers, which has no pixels, but got 1"
    assert rule in refused(launch.app, str(path), "--dry-run")
