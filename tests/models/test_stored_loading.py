import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from models import IResNet, load_pickled


@pytest.mark.parametrize("norm", ["spectral", "batch", "none"])
@pytest.mark.parametrize("activation", ["relu", "elu", "softplus"])
def test_every_kind_of_network_comes_back(norm: str, activation: str, tmp_path: Path) -> None:
    model = IResNet((1, 8, 8), 10, (1, 1), norm=norm, activation=activation)
    torch.save(model, tmp_path / "model.pth")
    loaded = load_pickled(tmp_path / "model.pth").eval()
    x = torch.rand(2, 1, 8, 8) - 0.5
    with torch.no_grad():
        assert torch.equal(loaded(x), model.eval()(x))


class Malicious:
    """Pickled so that loading it touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_code_in_the_file_is_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    model = IResNet((1, 8, 8), 10, (1,))
    model.extra = Malicious(touched)
    torch.save(model, tmp_path / "model.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious(touched)))
    for name in ("model.pth", "plain.pth"):
        with pytest.raises(ValueError, match=r"^it cannot be read: [^\n]*$"):
            load_pickled(tmp_path / name)
    assert not touched.exists()
    pickle.loads((tmp_path / "plain.pth").read_bytes())
    assert touched.exists()  # the file would have run it


def test_a_torn_file_and_another_thing_are_said(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(IResNet((1, 8, 8), 10, (1,)), path)
    whole = path.read_bytes()
    for n in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match=r"^it cannot be read: [^\n]*$"):
            load_pickled(path)
    with pytest.raises(ValueError, match="it cannot be read"):
        load_pickled(tmp_path / "nothing.pth")
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match="it must hold an IResNet, but holds a Linear"):
        load_pickled(path)
