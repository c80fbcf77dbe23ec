"""What a pass for many models over the same rows takes and gives: K models of C columns of weights each.

Column k C + c of W [D, K C] is class c of model k. A logistic model (C = 1) gives a row with label y in {0, 1}

    z = x . w + b        loss = log(1 + exp(z)) - y z        r = p - y        J = p (1 - p)

and a softmax (C > 1) one with class number y

    z_c = x . w_c + b_c        loss = log sum_c exp(z_c - z_y)        r = p - e_y        J = diag(p) - p p^T

without a clamp. A row trains some of the models and is held out from others, see `Models`. Each model's loss and
gradient are sums over the rows that train it, and its held-out loss is one over those held out from it, in the same
pass. Nothing of size N x K is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

MISSING = 255
"""The code of a label that is missing, where codes are bytes: the row counts for none of its target's models."""
MOST_CLASSES = 32_767
"""Codes of more than 255 classes have two bytes, and this for a label that is missing."""
NO_FOLD = 255
"""Number of a fold that holds nothing out: all rows with a label train the model."""


@dataclass(frozen=True)
class Models:
    """Which label of a row a model is trained on, and which rows.

    Row i trains model k, with e = folds[fold_of[k], i] and h = held[k], where its label codes[target_of[k], i] is not
    missing and e != h, or with `ordered` e < h; it is held out where the label is not missing and e = h.

    codes [T, N] uint8 or int16: labels, 0 or 1, or class numbers below C, and `missing` for one that is missing. folds
    [F, N] uint8: fold numbers below `NO_FOLD`. target_of, fold_of, held [K] int32. sample_weight: [N] float32 or
    float64, or None for ones. classes: C, 1 for logistic models. All of them contiguous, and on one device.
    """

    codes: Tensor
    folds: Tensor
    target_of: Tensor
    fold_of: Tensor
    held: Tensor
    ordered: bool = False
    sample_weight: Tensor | None = None
    classes: int = 1

    @property
    def count(self) -> int:
        """K."""
        return len(self.held)

    @property
    def missing(self) -> int:
        """The code of a label that is missing."""
        return missing_code(self.codes)

    def chosen(self, models: Tensor) -> Models:
        """Return those numbered `models` [k] int64."""
        of = {name: getattr(self, name)[models] for name in ("target_of", "fold_of", "held")}
        return replace(self, **of)

    def of_rows(self, rows: Tensor) -> Models:
        """Return the same models of the rows numbered `rows` [n] int64 only."""
        s = self.sample_weight
        weight = None if s is None else s[rows]
        return replace(self, codes=self.codes[:, rows], folds=self.folds[:, rows], sample_weight=weight)


def missing_code(codes: Tensor) -> int:
    """Return the code of a label that is missing: the largest one of the dtype."""
    return MISSING if codes.dtype == torch.uint8 else MOST_CLASSES


class ModelSums(NamedTuple):
    """Sums of one pass, float64, M = K C.

    loss, held_loss [K]; weight_grad [D, M] and bias_grad [M]: sum_i s_i r_i (x_i, 1) over the rows that train a model.
    Where `along` was given, border [D, M] and corner [M]: sum_i s_i J_i t (x_i, 1) for its t. second: where it was
    asked for, sum_i s_i J_i, [K, C, C].
    """

    loss: Tensor
    held_loss: Tensor
    weight_grad: Tensor
    bias_grad: Tensor
    border: Tensor | None = None
    corner: Tensor | None = None
    second: Tensor | None = None


def check_models(
    X: Tensor, models: Models, weight: Tensor, bias: Tensor, center: Tensor | None, along: Tensor | None
) -> None:
    """Raise ValueError or TypeError for what no pass can read, naming the argument; looks at no values."""
    N, D = X.shape
    K, C = models.count, models.classes
    shapes = {
        "weight": (weight, (D, K * C)),
        "bias": (bias, (K * C,)),
        "center": (center, (D,)),
        "along": (along, (K * C,)),
        "codes": (models.codes, (len(models.codes), N)),
        "folds": (models.folds, (len(models.folds), N)),
        "target_of": (models.target_of, (K,)),
        "fold_of": (models.fold_of, (K,)),
        "sample_weight": (models.sample_weight, (N,)),
    }
    for name, (tensor, shape) in shapes.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} is {list(tensor.shape)}; must be {list(shape)}")
        if tensor is not None and tensor.device != X.device:
            raise ValueError(f"{name} is on {tensor.device} and X on {X.device}; both must be on one device")
    if weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"weight is {weight.dtype}; must be float32 or float64, which is the arithmetic's dtype")
    for name in ("bias", "center", "along"):
        tensor = shapes[name][0]
        if tensor is not None and tensor.dtype != weight.dtype:
            raise TypeError(f"{name} is {tensor.dtype} and weight {weight.dtype}; must be of one dtype")
    for name, dtypes in {"codes": (torch.uint8, torch.int16), "folds": (torch.uint8,)}.items():
        if getattr(models, name).dtype not in dtypes:
            raise TypeError(f"{name} is {getattr(models, name).dtype}; must be {' or '.join(map(str, dtypes))}")
    for name in ("target_of", "fold_of", "held"):
        if getattr(models, name).dtype != torch.int32:
            raise TypeError(f"{name} is {getattr(models, name).dtype}; must be int32")
