"""The objectives of many models over one table, side by side: each a logistic or softmax regression with a penalty.

    P_k(W, b) = 1/S_k sum_i s_i loss_i + sum_jc (l1_jk |W_jc| + 1/2 l2_jk W_jc^2),      S_k = sum_i s_i

over the rows that train model k (`flashlogit_kernels.models`). A solver sees theta [P C, K], row j C + c of it being
class c of column j, in coordinates in which each model has about unit curvature (`flashlogit.objectives.coordinates`),

    W_jck = d_jk theta_jck        b_ck = d_bk theta_bck - center . W_ck,

with one centre for all models and scales d of their own. Values, gradients and gaps are as in
`flashlogit.objectives.objective`, [K] or [P C, K] float64: NumPy arrays between compiled loops, else tensors. Threads
of OpenMP, which an operation of torch's would wake, stay on the cores of the next pass. Gradients are those of the
smooth part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.models import NO_FOLD, Models, ModelSums

from ..passes import ModelsProgram, Passes
from .certificate import FARTHEST_SHIFT, float32_noise, l1_gap, penalty_gap, provable, shrinkage
from .coordinates import FOLDED_UP_TO, Moments
from .design import PassCounter, rows_by_weight
from .design import sample_rows as random_rows

Array = Any
"""[..., K] float64: a NumPy array, or a tensor on the device of X."""
_MEASURED_ROWS, _MEASURED_VALUES = 1024, 1 << 19
"""Columns are measured from so many rows, or so many values of X, whichever are more rows."""
_LEAST_L2 = 1e-16
"""Least penalty from which the scale of a constant column is computed."""


@dataclass(frozen=True)
class Counts:
    """Weights of rows by class, [K, C] each, of those that train a model and of those that are held out from it."""

    training: NDArray[np.float64]
    held: NDArray[np.float64]

    @classmethod
    def of(cls, models: Models, classes: int) -> Counts:
        """Count the rows of each model; classes: 2 for logistic models, else C."""
        s, folds = models.sample_weight, NO_FOLD + 1
        size = classes + 1  # the last one for labels that are missing

        def sums(target: int, column: int) -> Tensor:
            place = models.folds[column].long() * size + models.codes[target].clamp(max=classes)
            if s is None:
                return torch.bincount(place, minlength=folds * size)
            # On a GPU the sums of weights would differ from call to call.
            return torch.bincount(place.cpu(), weights=s.cpu().double(), minlength=folds * size)

        targets, columns, held = (each.tolist() for each in (models.target_of, models.fold_of, models.held))
        pairs = sorted(set(zip(targets, columns, strict=True)))
        counted = torch.stack([sums(*pair) for pair in pairs]).cpu().numpy().reshape(-1, folds, size)
        table = dict(zip(pairs, counted[:, :, :classes].astype(np.float64), strict=True))
        found = np.zeros((2, len(held), classes))
        for k, (target, column, h) in enumerate(zip(targets, columns, held, strict=True)):
            of = table[target, column]
            # Differences of sums would leave rounding errors where nothing is.
            others = of[:h] if models.ordered else np.concatenate([of[:h], of[h + 1 :]])
            found[0, k] = others.sum(axis=0)
            found[1, k] = of[h] if h <= NO_FOLD else 0.0
        return cls(found[0], found[1])


@dataclass(frozen=True)
class ModelPoints:
    """K objectives at theta [P C, K]: value and gap [K], gradient [P C, K]; the held-out losses, summed, [K].

    proven: whether the gaps are duality gaps, else they are estimates of such.
    """

    theta: Array
    gradient: Array
    value: Array
    gap: Array
    held_loss: Array
    proven: bool

    def __getitem__(self, chosen: Array) -> ModelPoints:
        """Return those of the models numbered `chosen`."""
        of = {name: getattr(self, name)[..., chosen] for name in ("theta", "gradient", "value", "gap", "held_loss")}
        return replace(self, **of)


@dataclass(frozen=True)
class ModelObjectives:
    """K objectives over X [N, D].

    models: rows and labels of each. l1 and l2 [D, K] in the units of X. scale [P, K]: d. center [D]: zeros without an
    intercept; `subtract` says whether a pass subtracts it, or it is folded into the intercepts. weight_sum [K]: S.
    shares [K, C'] of the classes in the null model, two for logistic models. variance [D]: of the columns; about 0
    without an intercept.
    """

    X: Tensor
    models: Models
    program: ModelsProgram
    intercept: bool
    l1: NDArray[np.float64]
    l2: NDArray[np.float64]
    scale: NDArray[np.float64]
    center: NDArray[np.float64]
    subtract: bool
    weight_sum: NDArray[np.float64]
    shares: NDArray[np.float64]
    variance: NDArray[np.float64]
    counter: PassCounter
    proving_l2: NDArray[np.float64] | None = None
    """The penalties by which gaps are proven, [D, K]; None for l2."""

    @classmethod
    def of(
        cls,
        X: Tensor,
        models: Models,
        l1: NDArray[np.float64],
        l2: NDArray[np.float64],
        counts: Counts,
        *,
        passes: Passes,
        program: ModelsProgram,
        intercept: bool,
    ) -> ModelObjectives:
        """Return the objectives over X, whose columns are measured; l1 and l2 [D, K] or [1, K]."""
        N, D = X.shape
        n = max(_MEASURED_ROWS, _MEASURED_VALUES // D)
        s = models.sample_weight
        moments = Moments.of(X, random_rows(N, n, X.device) if s is None else rows_by_weight(s, n), passes)
        mean = moments.mean if X.dtype == torch.float64 else moments.mean.astype(np.float32).astype(np.float64)
        weight_sum = counts.training.sum(axis=1)
        shares = counts.training / weight_sum[:, None] if intercept else np.full_like(counts.training, 1.0)
        shares = shares / shares.sum(axis=1, keepdims=True)
        curvature = (shares * (1 - shares)).mean(axis=1)
        center = mean if intercept else np.zeros(D)
        spread = moments.variance if intercept else moments.variance + np.square(mean)
        l1, l2 = (np.ascontiguousarray(np.broadcast_to(each, (D, models.count))) for each in (l1, l2))
        of_loss = spread[:, None] * curvature
        with np.errstate(all="ignore"):
            scale = 1 / np.sqrt(np.where(of_loss > 0, of_loss + l2, np.maximum(l2, _LEAST_L2)))
        if intercept:
            scale = np.concatenate([scale, curvature[None] ** -0.5])
        # Compiled loops subtract it for nothing. Rows of bfloat16 that a GPU multiplies as they are cannot be centred.
        far = bool((np.abs(center) > FOLDED_UP_TO * np.sqrt(moments.variance)).any())
        subtract = intercept and (program.on_host or far)
        counter = PassCounter(min(1.0, n / N))
        fixed = (center, subtract, weight_sum, shares, spread, counter)
        return cls(X, models, program, intercept, l1, l2, scale, *fixed)

    @property
    def count(self) -> int:
        """K."""
        return self.models.count

    @property
    def classes(self) -> int:
        """C."""
        return self.models.classes

    @cached_property
    def xp(self) -> Any:
        """The module of the arrays."""
        return np if self.program.on_host else torch

    @cached_property
    def sparse(self) -> bool:
        """Whether there is an l1 term."""
        return bool(self.l1.any())

    @cached_property
    def null_value(self) -> NDArray[np.float64]:
        """P of the null models, [K]."""
        with np.errstate(all="ignore"):
            terms = np.where(self.shares > 0, -self.shares * np.log(self.shares), 0.0)
        total: NDArray[np.float64] = terms.sum(axis=1)
        return total

    @cached_property
    def null(self) -> Array:
        """Theta of the null models, [P C, K]."""
        C = self.classes
        null = np.zeros((len(self.scale), C, self.count))
        if self.intercept:
            logs = np.log(self.shares)
            b = (logs[:, 1:] - logs[:, :1] if C == 1 else logs - logs.mean(axis=1, keepdims=True)).T
            null[-1] = b / self.scale[-1]
        return self.on_device(null.reshape(-1, self.count))

    def provable(self, tolerance: float) -> NDArray[np.bool_]:
        """Return which models have an l1 term, and which an l2 penalty, that proves a gap of the tolerance in spite of
        rounding, [2, K]."""
        curvature = (self.shares * (1 - self.shares)).mean(axis=1)
        of_loss, d = curvature * self.variance[:, None], self.scale[: len(self.center)]
        moving = np.where(of_loss > 0, d, 0.0)
        result = []
        for k in range(self.count):
            sizes = float(moving[:, k].sum()), float(np.square(moving[:, k]).sum())
            args = float(self.l1[:, k].min()), float(self.l2[:, k].min()), float(of_loss[:, k].sum()), sizes
            null = float(self.null_value[k])
            result.append(provable(*args, tolerance=tolerance, null=null, classes=self.classes))
        return np.array(result, dtype=bool).T

    def proving(self, by_l2: NDArray[np.bool_]) -> ModelObjectives:
        """Return the objectives whose gaps are proven by the l2 penalty where `by_l2` [K] says so, else by the l1
        term."""
        return replace(self, proving_l2=np.where(by_l2, self.l2, 0.0))

    @cached_property
    def rough_gap(self) -> NDArray[np.float64]:
        """About the gaps that rounding errors of gradients summed in float32 make, [K]."""
        curvature = (self.shares * (1 - self.shares)).mean(axis=1)
        of_loss = curvature * self.variance[:, None]
        with np.errstate(all="ignore"):
            by_l2 = float32_noise((of_loss / (2 * self._proving_l2)).sum(axis=0))
            by_l1 = np.sqrt(float32_noise(of_loss)) / self.l1
        noise: NDArray[np.float64] = np.where(
            (self._proving_l2 > 0).all(axis=0), by_l2, self.null_value * by_l1.max(axis=0)
        )
        return noise

    @property
    def _proving_l2(self) -> NDArray[np.float64]:
        return self.l2 if self.proving_l2 is None else self.proving_l2

    def chosen(self, models: NDArray[np.int64]) -> ModelObjectives:
        """Return the objectives numbered `models` [k]."""
        some = self.models.chosen(torch.from_numpy(models).to(self.X.device))
        names = ("l1", "l2", "scale") if self.proving_l2 is None else ("l1", "l2", "scale", "proving_l2")
        of: dict[str, Any] = {name: np.ascontiguousarray(getattr(self, name)[:, models]) for name in names}
        return replace(self, models=some, weight_sum=self.weight_sum[models], shares=self.shares[models], **of)

    def sample(self, rows: int) -> ModelObjectives | None:
        """Return the objectives over about `rows` random rows; None where a class of some model would have too few."""
        chosen = random_rows(len(self.X), rows, self.X.device)
        if chosen is None:
            return None
        models = self.models.of_rows(chosen)
        counts = Counts.of(models, self.shares.shape[1])
        fewest = 8 * len(self.scale) if self.classes == 1 else 64
        weight_sum = counts.training.sum(axis=1)
        if not weight_sum.min() > 0 or (counts.training.min(axis=1) / weight_sum).min() * len(chosen) < fewest:
            return None
        shares = counts.training / weight_sum[:, None] if self.intercept else self.shares
        X, counter = self.X.index_select(0, chosen), PassCounter()
        return replace(self, X=X, models=models, weight_sum=weight_sum, shares=shares, counter=counter)

    def coefficients(self, theta: Array) -> tuple[Array, Array]:
        """Return W [D, C, K] and b [C, K] in the units of X, for a softmax without what its classes share."""
        W, b = self._centred(theta)
        if self.intercept:
            b = b - (self._array["center"][:, None, None] * W).sum(0)
        if self.classes > 1:
            W, b = W if self.sparse else W - W.mean(1)[:, None], b - b.mean(0)[None]
        return W, b

    def evaluate(self, theta: Array, *, dtype: torch.dtype = torch.float64, proven: bool = False) -> ModelPoints:
        """Return values, gradients and gaps at theta [P C, K] by sums in `dtype`, for one pass over X.

        proven: whether the gaps are to be duality gaps; a softmax with an intercept takes another pass for that.
        """
        W, b = self._centred(theta)
        if self.folded:
            b = b - (self._array["center"][:, None, None] * W).sum(0)
        at = self._columns(W), self._columns(b)
        sums = self.sums(at, dtype, proven=proven)
        data = self._pulled_back(sums.weight_grad, sums.bias_grad)
        S = self._array["weight_sum"]
        l2_theta = self._array["l2_of"] * theta
        value = self._take(sums.loss) / S + 0.5 * (l2_theta * theta).sum(0)
        if self.sparse:
            value = value + (self._array["l1_of"] * abs(theta)).sum(0)
        gradient = data + l2_theta
        if proven:
            gap, value = self._proven(theta, at, dtype, sums, data, value)
        else:
            gap = self.estimated_gap(theta, gradient, data, value)
        return ModelPoints(theta, gradient, value, gap, self._take(sums.held_loss), proven)

    def estimated_gap(self, theta: Array, gradient: Array, data: Array, value: Array) -> Array:
        """Return about the duality gaps [K] by gradients, and gradients without the penalty, [P C, K]."""
        weights = len(self.center) * self.classes
        if self.sparse:
            l1, l2 = self._array["l1_of"][:weights], self._array["proving_l2_of"]
            gap, tau = self._penalty_gaps(theta[:weights], data[:weights], l1, l2)
            gap = gap + (1 - tau) * value
        else:
            gap = (gradient[:weights] ** 2 / (2 * self._array["l2_of"][:weights])).sum(0)
        # Twice what the intercepts alone could still gain, if their curvature were the null model's.
        gap = gap + (data[weights:] ** 2).sum(0)
        return self.xp.minimum(gap, value)

    def _penalty_gaps(self, w: Array, a: Array, l1: Array, l2: Array) -> tuple[Array, Array]:
        """Return the columns' part of the gaps [K], and tau [K], for w, a and penalties [D C, K]; l2 as it proves."""
        with np.errstate(all="ignore"):
            tau = shrinkage(a, l1, l2)
            return self.xp.where(l2 > 0, penalty_gap(w, a, l1, l2), l1_gap(w, tau * a, l1)).sum(0), tau

    def _proven(
        self, theta: Array, at: tuple[Tensor, Tensor], dtype: torch.dtype, sums: ModelSums, data: Array, value: Array
    ) -> tuple[Array, Array]:
        """Return duality gaps [K], as `Objective.certify` does, and the values at coefficients without what the classes
        share.

        Where u is shrunk to tau u, its divergence of a row is convex in tau: at most tau times that of u, and 1 - tau
        times the row's loss.
        """
        xp, D, C, K = self.xp, len(self.center), self.classes, self.count
        scale, l2 = self._array["scale"], self._array["l2"]
        W = self._centred(theta)[0]
        saved = 0.5 * (l2 * C * W.mean(1) ** 2).sum(0) if C > 1 and not self.sparse else 0.0 * value
        value = value - saved
        a = data.reshape(-1, C, K)
        divergence, farthest = 0.0 * value, 0.0 * value
        if self.intercept:
            slope = a[D] / scale[D]
            if C == 1:
                assert sums.border is not None
                assert sums.corner is not None
                corner = self._take(sums.corner) / self._array["weight_sum"]
                shift = slope / corner
                moved = self._pulled_back(sums.border, sums.corner).reshape(-1, C, K) * shift
                divergence, farthest = shift[0] ** 2 * corner, xp.abs(shift[0])
            else:
                assert sums.second is not None
                curvature = self._take(sums.second) / self._array["weight_sum"][:, None, None]
                inverse = xp.linalg.pinv(curvature, hermitian=True)
                t = (inverse @ slope.T[:, :, None])[:, :, 0]
                high, low = (t.max(1), t.min(1)) if xp is np else (t.amax(1), t.amin(1))
                t = t - ((high + low) / 2)[:, None]
                divergence, farthest = (t[:, None] @ curvature @ t[:, :, None])[:, 0, 0], (high - low) / 2
                along = self._tensor(t.reshape(-1)).to(dtype)
                again = self._run(at, dtype, along=along)
                assert again.border is not None
                assert again.corner is not None
                moved = self._pulled_back(again.border, again.corner).reshape(-1, C, K)
            a = a - moved
        a = a[:D] / scale[:D, None]
        if self.sparse:
            proving = self._array["proving_l2"]
            penalties = [xp.stack([each] * C, 1).reshape(-1, K) for each in (self._array["l1"], proving)]
            gap, tau = self._penalty_gaps(W.reshape(-1, K), a.reshape(-1, K), *penalties)
            loss = self._take(sums.loss) / self._array["weight_sum"]
            gap = gap + tau * divergence + (1 - tau) * loss + 0.5 * ((l2 - proving)[:, None] * W**2).sum(0).sum(0)
        else:
            gap = divergence + ((a + l2[:, None] * W) ** 2 / (2 * l2[:, None])).sum(0).sum(0) - saved
        # Where there is no such shift all that is known is P* >= 0; NaN is no small number either.
        gap = xp.where(farthest <= FARTHEST_SHIFT, xp.maximum(gap, 0.0 * value), value)
        return xp.minimum(gap, value), value

    def sums(self, at: tuple[Tensor, Tensor], dtype: torch.dtype, *, proven: bool = False) -> ModelSums:
        """Return the sums of a pass in `dtype` at W [D, K C] and b [K C] of its columns; proven: with what proves gaps
        or, of a softmax with an intercept, what another pass needs for that."""
        ones = proven and self.intercept and self.classes == 1
        along = torch.ones(self.count, dtype=dtype, device=self.X.device) if ones else None
        return self._run(at, dtype, along=along, second=proven and self.intercept and self.classes > 1)

    def _run(self, at: tuple[Tensor, Tensor], dtype: torch.dtype, **options: Any) -> ModelSums:
        self.counter.passes += 1
        center = self._tensor(self._array["center"]).to(dtype) if self.subtract else None
        W, b = at
        return self.program.onepass(self.X, self.models, W.to(dtype), b.to(dtype), center=center, **options)

    @property
    def folded(self) -> bool:
        """Whether the centre is folded into the intercepts."""
        return self.intercept and not self.subtract

    def array(self, name: str) -> Array:
        """Return an array where they live: scale [P, K], l1_of or l2_of [P C, K], penalties by theta, scale_of
        [P C, K], center [D] or weight_sum [K]."""
        return self._array[name]

    def on_device(self, array: NDArray[Any]) -> Array:
        """Return an array where the arrays live."""
        return array if self.program.on_host else torch.from_numpy(array).to(self.X.device)

    @cached_property
    def _array(self) -> dict[str, Array]:
        C, D = self.classes, len(self.l2)
        d, none = self.scale[:D], np.zeros((len(self.scale) - D, self.count))
        l1_of, l2_of = (np.concatenate([each, none]) for each in (self.l1 * d, self.l2 * np.square(d)))
        arrays = {"scale_of": self.scale, "l1_of": l1_of, "l2_of": l2_of, "proving_l2_of": self._proving_l2 * d**2}
        arrays = {name: np.repeat(each, C, axis=0) for name, each in arrays.items()}
        arrays |= {"scale": self.scale, "l1": self.l1, "l2": self.l2, "proving_l2": self._proving_l2}
        arrays |= {"center": self.center, "weight_sum": self.weight_sum}
        return {name: self.on_device(each) for name, each in arrays.items()}

    def _take(self, tensor: Tensor) -> Array:
        return tensor.numpy() if self.program.on_host else tensor

    def _tensor(self, array: Array) -> Tensor:
        tensor: Tensor = array if isinstance(array, Tensor) else torch.from_numpy(array)
        return tensor

    def _joined(self, weights: Array, bias: Array) -> Array:
        """Return [D + 1, ...] of [D, ...] and [...]."""
        return np.concatenate([weights, bias[None]]) if self.xp is np else torch.cat([weights, bias[None]])

    def _centred(self, theta: Array) -> tuple[Array, Array]:
        """Return W [D, C, K] and b [C, K] of the centred columns."""
        D = len(self.center)
        scaled = theta.reshape(-1, self.classes, self.count) * self._array["scale"][:, None]
        return scaled[:D], scaled[D] if self.intercept else 0.0 * scaled[0]

    def _columns(self, values: Array) -> Tensor:
        """Return [D, C, K] or [C, K] as the columns of a pass, [D, K C] or [K C]."""
        C, K = self.classes, self.count
        turned = values if C == 1 else values.swapaxes(-1, -2)
        shape = (K * C,) if values.ndim == 2 else (len(values), K * C)
        return self._tensor(turned.reshape(shape))

    def _pulled_back(self, weights: Tensor, bias: Tensor) -> Array:
        """Return sums [D, K C] and [K C] as the means over rows by theta, [P C, K]."""
        C, K = self.classes, self.count
        of_weight = self._take(weights).reshape(-1, K, C).swapaxes(1, 2)
        of_bias = self._take(bias).reshape(K, C).swapaxes(0, 1)
        if self.folded:
            of_weight = of_weight - self._array["center"][:, None, None] * of_bias
        if self.intercept:
            of_weight = self._joined(of_weight, of_bias)
        return (of_weight * self._array["scale"][:, None] / self._array["weight_sum"]).reshape(-1, K)
