"""How much each column of the file moves the logit, with all of its features together."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.model import Model
from ..system.memory import cast_rows


def features_by_column(model: Model) -> dict[str, int]:
    """Return the columns of the file in order, each with the number of its features."""
    if model.encoding is None:
        return dict.fromkeys(model.feature_names, 1)
    return {column.name: len(column.features) for column in model.encoding.columns}


def contribution_deviation(model: Model, X: Tensor, deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation over the rows of each file column's contribution to the logit, [C] float64.

    A column's contribution to a row's logit is the sum of its features' values times their coefficients. That of a
    number, of a column of categories and of a date have one unit, and the coding of the features does not change it:
    the single coefficients of 30 cities have neither. For K > 2 classes it is that of the logit less its mean over the
    classes, as the root of the mean square over the classes.

    Args:
        model: of these columns, standardised as X is.
        X: [N, D], the training rows as they are stored. They are read once where a column has several features.
        deviation: [D], the columns' standard deviations in the user's units.
    """
    sizes = np.array(list(features_by_column(model).values()), dtype=np.int64)
    ends = np.cumsum(sizes)
    stored = _of_mean(np.atleast_2d(model.weight.astype(np.float64)))
    # The variance of a feature alone is that of its column; a column of one category, the reference, has none.
    variance = np.square(_of_mean(model.raw()[0]) * deviation).mean(axis=0)
    found = np.where(sizes > 0, variance[np.maximum(ends - 1, 0)], 0.0)
    several = np.flatnonzero(sizes > 1).tolist()
    if several:
        spans = [(int(ends[c] - sizes[c]), int(ends[c])) for c in several]
        weights = [torch.as_tensor(stored[:, a:b].T.copy(), device=X.device) for a, b in spans]

        def contributions(rows: Tensor) -> list[Tensor]:
            """Return [n, K] of the rows for each column of several features."""
            wide = rows.double()
            return [wide[:, a:b] @ w for (a, b), w in zip(spans, weights, strict=True)]

        # Sums of what differs from the first row, so that a large mean takes no digits from them.
        first = contributions(X[:1])
        sums = torch.zeros(2, len(spans), len(stored), dtype=torch.float64, device=X.device)
        for block in torch.split(X, cast_rows(X)):
            for place, (of, start) in enumerate(zip(contributions(block), first, strict=True)):
                differs = of - start
                sums[0, place] += differs.sum(dim=0)
                sums[1, place] += differs.square().sum(dim=0)
        mean, square = (sums / len(X)).cpu().numpy()
        found[several] = np.maximum(square - mean**2, 0.0).mean(axis=1)
    result: NDArray[np.float64] = np.sqrt(found)
    return result


def _of_mean(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights [K, D] less their mean over K > 2 classes, which changes no probability; [1, D] as they are."""
    return weight - weight.mean(axis=0) if len(weight) > 1 else weight
