"""The state of training at an epoch's end, as one file: tensors in safetensors, the rest as JSON in its header.

One file, because two cannot be replaced in one step; no pickle, because a checkpoint may come from a stranger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .atomic import write_atomically
from .errors import UserError
from .safetensors_file import read_safetensors

FORMAT = "flashlogit-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the rest of a run depends on.

    tensors: weight, bias, their best twins, the generator's state, and `optimizer.<parameter>.<name>`.
    progress: JSON values that training keeps (epochs done, best loss, the optimiser's and schedule's numbers, ...).
    origin: JSON values that must be the same when the run goes on (settings, data, device).
    """

    tensors: dict[str, Tensor]
    progress: dict[str, Any]
    origin: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the checkpoint to `path` in one step, replacing an older one."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        content = json.dumps({"progress": self.progress, "origin": self.origin})
        metadata = {"format": FORMAT, "state": content}
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint onto the CPU.

        Raises:
            UserError: no such file, or not a checkpoint.
        """
        if not path.is_file():
            raise UserError(f"there is no checkpoint {path}; start the run without --resume")
        tensors, metadata = read_safetensors(
            path, framework="pt", kind=FORMAT, remedy="start again with --overwrite"
        )
        return cls(tensors, **json.loads(metadata["state"]))

    def check_origin(self, path: Path, current: Mapping[str, Any]) -> None:
        """Raise UserError unless the run that goes on is the run that stopped."""
        differences = list(_differences(self.origin, current))
        if differences:
            key, then, now = differences[0]
            more = f" (and {len(differences) - 1} more settings)" if len(differences) > 1 else ""
            raise UserError(
                f"{path} belongs to another run: {key} was {then!r} and is {now!r}{more};"
                " set it back, choose another name, or start again with --overwrite"
            )


def optimizer_to_parts(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state_dict as named tensors and JSON values."""
    tensors, numbers = {}, {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value.detach().clone()
            else:
                numbers[f"{index}.{name}"] = value
    return tensors, {"param_groups": state["param_groups"], "numbers": numbers}


def optimizer_from_parts(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `optimizer_to_parts`."""
    state: dict[int, dict[str, Any]] = {}
    named = {
        name.removeprefix("optimizer."): tensor
        for name, tensor in tensors.items()
        if name.startswith("optimizer.")
    }
    for name, value in {**named, **values["numbers"]}.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": values["param_groups"]}


def generator_state(generator: torch.Generator) -> Tensor:
    """A copy of a generator's state, uint8."""
    return generator.get_state().clone()


def _differences(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in [*then, *(name for name in now if name not in then)]:
            yield from _differences(then.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif then != now:
        yield key, then, now
