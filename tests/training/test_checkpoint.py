"""Checkpoints as files."""

from __future__ import annotations

import pytest
import torch

from flashlogit.system.errors import UserError
from flashlogit.training.checkpoint import Checkpoint, optimizer_state, optimizer_tensors


def test_a_checkpoint_reads_back_equal(tmp_path):
    tensors = {"weight": torch.randn(3), "step": torch.tensor(7.0), "state": torch.arange(5, dtype=torch.uint8)}
    progress = {"epoch": 3, "lr": 0.1 + 0.2, "nested": {"list": [1, 2.5, None]}}
    Checkpoint(tensors, progress, {"seed": 0}).save(tmp_path / "c")
    loaded = Checkpoint.load(tmp_path / "c")
    assert loaded.progress == progress
    assert loaded.origin == {"seed": 0}
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in tensors.items())
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


def test_optimizer_states_survive_being_taken_apart():
    parameter = torch.nn.Parameter(torch.ones(3))
    for optimizer in (torch.optim.Adam([parameter]), torch.optim.SGD([parameter], lr=0.1, momentum=0.0)):
        parameter.grad = torch.ones(3)
        optimizer.step()
        state = optimizer.state_dict()["state"]
        rebuilt = optimizer_state({"weight": torch.ones(3), **optimizer_tensors({"state": state})})
        assert rebuilt.keys() == {i for i, values in state.items() if values}
        assert all(torch.equal(rebuilt[i][name], value) for i in rebuilt for name, value in state[i].items())


@pytest.mark.parametrize("content", [None, b"", b"not safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_missing_or_damaged_checkpoint_names_the_remedy(content, tmp_path):
    path = tmp_path / "c"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        Checkpoint.load(path)
    assert str(path) in str(caught.value)
    assert ("--resume" if content is None else "--overwrite") in str(caught.value)


def test_another_runs_checkpoint_names_the_first_difference(tmp_path):
    checkpoint = Checkpoint({}, {}, {"seed": 0, "loss": {"l2": 0.1, "eps": 1e-8}})
    checkpoint.check_origin(tmp_path, {"seed": 0, "loss": {"l2": 0.1, "eps": 1e-8}})
    with pytest.raises(UserError, match=r"seed was 0 and is 1 \(and 1 more settings\)"):
        checkpoint.check_origin(tmp_path, {"seed": 1, "loss": {"l2": 0.2, "eps": 1e-8}})
    with pytest.raises(UserError, match=r"loss\.l2 was 0\.1 and is None;"):
        checkpoint.check_origin(tmp_path, {"seed": 0, "loss": {"eps": 1e-8}})
