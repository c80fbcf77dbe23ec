"""The state of training at an epoch's end, as one file: tensors in safetensors, the rest as JSON in its header.

One file, because two cannot be replaced in one step; no pickle, because a checkpoint may come from a stranger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from ..system.errors import UserError
from ..system.safetensors_file import read_safetensors, write_safetensors
from ..system.strict import first_problem, parser_of
from .optimizers import State

_REMEDY = "start again with --overwrite"


class SavedProgress(BaseModel):
    """Base of what a way of learning needs of a checkpoint's progress; values of other types are refused."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


AnyProgress = TypeVar("AnyProgress", bound=SavedProgress)


class _State(BaseModel):
    """The JSON object of the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    progress: dict[str, Any]
    origin: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the rest of a run depends on.

    tensors: weight, bias, their best twins, the generator's state, and `optimizer.<parameter>.<name>`.
    progress: JSON values that training keeps (epochs done, best loss, ...).
    origin: JSON values that must be the same when the run goes on (settings, data, device).
    path: the file that it was read from, for errors.
    """

    tensors: dict[str, Tensor]
    progress: dict[str, Any]
    origin: dict[str, Any]
    path: Path | None = field(default=None, compare=False)

    def save(self, path: Path) -> None:
        """Write the checkpoint to `path` in one step, replacing an older one."""
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.tensors.items()}
        content = {"progress": self.progress, "origin": self.origin}
        write_safetensors(path, arrays, kind="checkpoint", content=content)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint onto the CPU. `check_tensors` and `progress_as` tell whether it can be gone on from.

        Raises:
            UserError: no such file, a damaged one, or not a checkpoint.
        """
        if not path.is_file():
            raise UserError("there is no such checkpoint", setting=path, remedy="start the run without --resume")
        arrays, state = read_safetensors(path, kind="checkpoint", content=parser_of(_State), remedy=_REMEDY)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return cls(tensors, state.progress, state.origin, path)

    def check_tensors(self, expected: Mapping[str, Tensor]) -> None:
        """Raise UserError unless the tensors are those that a run with these has.

        That is: of the same names and shapes, of float32 or float64 where these are, else of the same dtype, and
        finite; a single number, which counts steps, not below 0.
        """
        for name in [*expected, *(name for name in self.tensors if name not in expected)]:
            found, wanted = self.tensors.get(name), expected.get(name)
            if found is None or wanted is None:
                raise self.unusable(f"it {'lacks' if found is None else 'has'} a tensor {name[:40]!r}")
            dtypes = (torch.float32, torch.float64) if wanted.is_floating_point() else (wanted.dtype,)
            if found.shape != wanted.shape or found.dtype not in dtypes:
                raise self.unusable(
                    f"its tensor {name!r} is {list(found.shape)} of {found.dtype}, and the run's"
                    f" {list(wanted.shape)} of {wanted.dtype}"
                )
            if not found.isfinite().all() or (found.ndim == 0 and found < 0):
                raise self.unusable(f"its tensor {name!r} has a value that none of a run has")

    def progress_as(self, kind: type[AnyProgress]) -> AnyProgress:
        """Return the progress as that kind of it; UserError where it is not."""
        try:
            return kind.model_validate(self.progress)
        except ValidationError as error:
            raise self.unusable(f"of its progress, {first_problem(error)}") from error

    def unusable(self, reason: str) -> UserError:
        """Return the error that the run cannot go on from here, for a reason that is a part of a sentence."""
        where = "the checkpoint" if self.path is None else self.path
        return UserError(f"a run cannot go on from it: {reason}", setting=where, remedy=_REMEDY)

    def check_origin(self, path: Path, current: Mapping[str, Any]) -> None:
        """Raise UserError unless the run that goes on is the run that stopped."""
        differences = list(_differences(self.origin, current))
        if differences:
            key, then, now = differences[0]
            more = f" (and {len(differences) - 1} more settings)" if len(differences) > 1 else ""
            problem = f"it belongs to another run: {key} was {then!r} and is {now!r}{more}"
            remedy = "set it back, choose another name, or start again with --overwrite"
            raise UserError(problem, setting=path, remedy=remedy)


def optimizer_tensors(states: Iterable[State]) -> dict[str, Tensor]:
    """Return copies of the states of the parameters' update rules, as `optimizer.<parameter>.<name>`."""
    named = ((f"optimizer.{i}", state) for i, state in enumerate(states))
    return {f"{parameter}.{name}": value.clone() for parameter, state in named for name, value in state.items()}


def optimizer_states(tensors: Mapping[str, Tensor], like: Tensor) -> tuple[State, State]:
    """Return the states that `optimizer_tensors` took apart, in the dtype and on the device of the weights `like`."""
    states: tuple[State, State] = ({}, {})
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        if first == "optimizer":
            index, _, key = rest.partition(".")
            states[int(index)][key] = tensor if tensor.ndim == 0 else tensor.to(like, copy=True)
    return states


def generator_state(generator: torch.Generator) -> Tensor:
    """Return a copy of a generator's state, uint8."""
    return generator.get_state().clone()


def _differences(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in [*then, *(name for name in now if name not in then)]:
            yield from _differences(then.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif then != now:
        yield key, then, now
