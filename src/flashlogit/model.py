"""A trained model as a file: what is needed to turn a row of the user's table into a probability."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from .atomic import write_atomically
from .data import Standardization
from .data.encoding import Encoding
from .data.labels import Rule, rule_from_json, rule_to_json
from .errors import UserError
from .safetensors_file import read_safetensors

FORMAT = "flashlogit-model-1"
_CHUNK = 1 << 16
"""Values of a block that are centred at a time, so that they are in the cache when they are multiplied."""


@dataclass(frozen=True)
class Model:
    """Weights on standardised columns, and how to get there from the user's own columns.

    weight [D] and bias [1] in the dtype of training, float32 or float64; label_names are the negative and the positive
    class. For K > 2 classes weight is [K, D], bias [K] and label_names has K.
    threshold is the probability from which a row is called positive; eps is the training loss's clamp;
    array_widths is that of `Dataset`.
    """

    weight: NDArray[Any]
    bias: NDArray[Any]
    feature_names: tuple[str, ...]
    label_names: tuple[str, ...]
    standardization: Standardization
    eps: float
    threshold: float
    array_widths: tuple[int, ...] = ()
    encoding: Encoding | None = None
    """How the features are made of a file's columns; None where they are those."""
    rule: Rule | None = None
    """What a label column means; None where the labels were no file's, and in files of earlier versions."""

    def logits(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """z [n] or [n, K] float64 of rows [n, D] in the user's units, columns in the order of feature_names."""
        # Centred, since a far mean costs no digits so; the scale goes into the weights, fewer than the values.
        weight = self.weight.astype(np.float64) / self.standardization.scale
        z = np.empty((len(block), *weight.shape[:-1]))
        rows = max(1, _CHUNK // block.shape[1])
        for start in range(0, len(block), rows):
            centred = block[start : start + rows] - self.standardization.mean
            # For one vector not `@`: BLAS's threads cost it more than the product itself (measured 1.2 ms for a block
            # of 2,900 x 181 against einsum's 0.25, on 2 cores that had other work).
            z[start : start + rows] = (
                np.einsum("ij,j->i", centred, weight) if weight.ndim == 1 else centred @ weight.T
            )
        return z + self.bias.astype(np.float64)

    def threshold_or(self, given: float | None) -> float:
        """The threshold that --threshold gave, or else the model's own.

        Raises:
            UserError: it is not within (0, 1), or the model has more than two classes.
        """
        if given is None:
            return self.threshold
        if not 0 < given < 1:
            raise UserError(f"--threshold is {given:g}; must lie between 0 and 1")
        if len(self.label_names) > 2:
            raise UserError(
                f"--threshold is {given:g}, and the model has {len(self.label_names)} classes, the likeliest of which"
                " is predicted; leave it out"
            )
        return given

    def save(self, path: Path) -> None:
        """Write a safetensors file whose tensors are the state_dict of torch.nn.Linear(D, 1), or Linear(D, K)."""
        about = {
            "feature_names": self.feature_names,
            "label_names": self.label_names,
            "standardization": {
                "mean": self.standardization.mean.tolist(),
                "scale": self.standardization.scale.tolist(),
            },
            "eps": self.eps,
            "threshold": self.threshold,
            "array_widths": self.array_widths,
            "encoding": None if self.encoding is None else self.encoding.to_json(),
            "rule": None if self.rule is None else rule_to_json(self.rule),
        }
        metadata = {"format": FORMAT, **{key: json.dumps(value) for key, value in about.items()}}
        tensors = {"weight": np.atleast_2d(self.weight), "bias": self.bias.reshape(-1)}
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))

    @classmethod
    def load(cls, path: Path) -> Model:
        """Read a model file, or the model of a run directory.

        Raises:
            UserError: no such file, or not a model.
        """
        file_path = path / "model.safetensors" if path.is_dir() else path
        if not file_path.is_file():
            raise UserError(f"there is no model {file_path}; give a run directory or its model.safetensors")
        tensors, metadata = read_safetensors(
            file_path, framework="numpy", kind=FORMAT, remedy="give a run directory or its model.safetensors"
        )
        try:
            return _rebuilt(tensors, metadata)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{file_path} lacks something that a model has ({error}); train the model again"
            ) from error


def _rebuilt(tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> Model:
    """The model that `Model.save` took apart."""
    about = {key: json.loads(value) for key, value in metadata.items() if key != "format"}
    about["standardization"] = Standardization(
        **{key: np.array(value) for key, value in about["standardization"].items()}
    )
    # Files of earlier versions lack these.
    encoding, rule = about.pop("encoding", None), about.pop("rule", None)
    about["encoding"] = None if encoding is None else Encoding.from_json(encoding)
    about["rule"] = None if rule is None else rule_from_json(rule)
    for key in ("feature_names", "label_names", "array_widths"):
        about[key] = tuple(about[key])
    weight = tensors["weight"]
    return Model(weight=weight[0] if len(weight) == 1 else weight, bias=tensors["bias"], **about)
