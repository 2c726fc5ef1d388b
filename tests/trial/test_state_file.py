import math
import pickletools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from study.trial.state_file import read_state, state_bytes


def test_tensors_and_plain_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    shared = torch.arange(6.0).view(2, 3)
    state = {
        "plain": [1, 2.5, "text", None, True, math.inf, 0.1 + 0.2],
        "nested": {"a": {"b": [shared, {"c": shared.T}]}, "empty": {}, "none": []},
        "kinds": [
            torch.tensor([1, 2]),
            torch.tensor(2.0, dtype=torch.float64),
            torch.tensor([True, False]),
            torch.zeros(0, 3),
            torch.tensor([math.nan, -0.0]),
            torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        ],
    }
    (tmp_path / "state").write_bytes(state_bytes(state))
    again = read_state(tmp_path / "state")
    assert again["plain"] == state["plain"]
    assert (again["nested"]["empty"], again["nested"]["none"]) == ({}, [])
    first, second = again["nested"]["a"]["b"]
    assert torch.equal(first, shared)
    assert torch.equal(second["c"], shared.T)
    for one, other in zip(again["kinds"], state["kinds"], strict=True):
        assert isinstance(other, torch.Tensor)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        bytes_ = [t.contiguous().view(-1).view(torch.uint8) for t in (one, other)]
        assert torch.equal(*bytes_)


def test_it_is_no_pickle() -> None:
    with pytest.raises(ValueError, match=r".*"):
        list(pickletools.genops(state_bytes({"x": torch.zeros(3)})))


@pytest.mark.parametrize("state", [{"x": object()}, {1: 2}, {"tensor": 1}, {"x": {1, 2}}])
def test_anything_else_is_refused(state: object) -> None:
    with pytest.raises(TypeError):
        state_bytes(state)


def test_a_file_that_is_not_whole_is_named(tmp_path: Path) -> None:
    content = state_bytes({"x": torch.arange(30.0), "epoch": 3})
    path = tmp_path / "state.safetensors"
    damaged = [content[:n] for n in range(0, len(content), 7)]
    damaged += [b"garbage" * 20, save({"x": torch.zeros(3)}), save({}, {"state": "{"})]
    for each in damaged:
        path.write_bytes(each)
        with pytest.raises(ValueError, match=r"^state\.safetensors cannot be read: "):
            read_state(path)
    path.write_bytes(content)
    assert read_state(path)["epoch"] == 3
