"""scikit-learn's LogisticRegressionCV: the models of all folds and penalties are stepped side by side."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.utils import metadata_routing as routing
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_method_params, check_is_fitted
from torch import Tensor

from flashlogit_kernels.models import MOST_CLASSES

from ..fitting.many import fit_many
from ..passes import BackendName
from .arrays import as_tensor, is_device_array, like, numpy_of
from .fitted import BELOW, FittedModel, check_same_namespace
from .held_out import HeldOutModel, knowing_labels
from .inputs import TrainingRows, training_rows
from .labels import checked_weights
from .logistic_regression import LogisticRegression
from .parameters import CONSTRAINTS, check_parameters, fit_options, shortfall

_SHARED = ("dual", "tol", "fit_intercept", "class_weight", "random_state", "solver", "max_iter", "device", "backend")
"""Parameters that are those of LogisticRegression."""
_SCORED = ("accuracy", "roc_auc")
"""Scores that `fit_many` gives. Its loss is none of them: scikit-learn's cuts probabilities off at the dtype's
epsilon."""

_OF_MODEL = ("coef_", "intercept_", "classes_", "_lacking", "gap_")
"""Fitted attributes that are those of LogisticRegression."""

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Numbers of the rows to train on, and of those that are held out."""


@dataclass(frozen=True)
class _Paths:
    """The models of F folds, R ratios and L penalties, of K columns each (1 for two classes).

    Cs [L] and ratios [R] are the penalties. weight [F, R, L, K, D] and bias [F, R, L, K] are float64, on the device of
    X. numbers: by name as in `TargetFits`, [F, R, L] float64 each; scores are NaN where `fit_many` has none. lacking:
    for each fold whose training rows lack a class, which ones, [classes].
    """

    Cs: NDArray[np.float64]
    ratios: NDArray[np.float64]
    weight: Tensor
    bias: Tensor
    numbers: dict[str, NDArray[np.float64]]
    lacking: dict[int, NDArray[np.bool_]]


class LogisticRegressionCV(FittedModel):
    """Logistic regression whose penalty is chosen by cross-validation, with scikit-learn's interface.

    The objective, the classes and the arrays are those of `LogisticRegression`. The models of all folds and C are
    stepped together, so that a read of X counts for all of them (`flashlogit.fit_many`). With an l1 term they are
    fitted one after the other, each from its neighbour.

    Args:
        Cs: how many C, evenly spread by their logarithms from 1e-4 to 1e4, or a list of C above 0; infinity is no
            penalty.
        l1_ratios: list of shares of the l1 term, from 0 to 1. None is 0, and takes the axis of ratios out of the
            attributes where `use_legacy_attributes`.
        fit_intercept: whether there is an intercept.
        cv: number of folds (5 if None, stratified), a splitter of scikit-learn, or pairs of rows to train on and to
            hold out.
        dual: must be False; for compatibility.
        penalty: "elasticnet" goes by l1_ratios; "l2" and "l1" set them to 0 and 1.
        scoring: name of a score, or a callable(estimator, X, y), of which more is better; None for the accuracy. It
            gets NumPy arrays, whatever X is.
        solver: of the fit on all rows, as in LogisticRegression.
        tol: on the duality gap of each model, as in LogisticRegression.
        max_iter: most evaluations of each model.
        class_weight: None, "balanced" or a dict by label; the balance is that of all rows, for each fold.
        n_jobs: for compatibility; a fit uses torch's threads.
        verbose: above 0 prints how many models are done.
        refit: whether the model is that of the best penalty on all rows, or else the mean of each fold's best.
        intercept_scaling: for compatibility, as in LogisticRegression.
        random_state: for compatibility; the order of rows is the splitter's matter.
        use_legacy_attributes: shapes of the attributes, see there.
        device: as in LogisticRegression.
        backend: as in LogisticRegression.

    Attributes:
        coef_, intercept_, classes_: as in LogisticRegression.
        Cs_: [L].
        l1_ratios_: [R].
        scores_: [F, R, L], or with legacy attributes a dict by class (of two classes the second) of [F, L, R].
        coefs_paths_: [F, R, L, K, D + 1] (of two classes K is 1; D without an intercept), or the dict of
            [F, L, R, D + 1].
        n_iter_: evaluations of the objective, [F, R, L] or [1, F, L, R].
        C_, l1_ratio_: the best, floats or [K]; without `refit` their means over folds.
        gap_: float, as in LogisticRegression; without `refit` the largest of the models that the mean is of.
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    __module__ = "flashlogit.estimator"
    # scikit-learn's mark of a parameter that `score` hands on to the scorer
    __metadata_request__score = {"sample_weight": routing.UNUSED}  # noqa: RUF012

    gap_: float
    _parameter_constraints = {  # noqa: RUF012
        **{name: CONSTRAINTS[name] for name in (*_SHARED[:-2], "backend", "verbose")},
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "penalty": [each for each in CONSTRAINTS["penalty"] if each is not None],
        "Cs": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "l1_ratios": ["array-like", None],
        "cv": ["cv_object"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "refit": ["boolean"],
        "use_legacy_attributes": ["boolean"],
    }

    def __init__(
        self,
        *,
        Cs: Any = 10,
        l1_ratios: Any = None,
        fit_intercept: bool = True,
        cv: Any = None,
        dual: bool = False,
        penalty: str = "elasticnet",
        scoring: Any = None,
        solver: str = "auto",
        tol: float = 1e-10,
        max_iter: int = 1000,
        class_weight: dict[Any, float] | str | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        refit: bool = True,
        intercept_scaling: float = 1,
        random_state: Any = None,
        use_legacy_attributes: bool = True,
        device: str = "auto",
        backend: BackendName = "auto",
    ) -> None:
        self.Cs = Cs
        self.l1_ratios = l1_ratios
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.dual = dual
        self.penalty = penalty
        self.scoring = scoring
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.refit = refit
        self.intercept_scaling = intercept_scaling
        self.random_state = random_state
        self.use_legacy_attributes = use_legacy_attributes
        self.device = device
        self.backend = backend

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> Self:
        """Fit the models of all folds and penalties, choose a penalty by their scores, and fit it to all rows.

        Args:
            X: [N, D] finite numbers.
            y: [N] labels of at least two classes.
            sample_weight: [N], at least 0; scores are weighted by it too.
            params: of the splitter and the scorer, where metadata routing is on.

        Raises:
            ValueError: a parameter or array that cannot be used.
            UserError: a solver that cannot take this problem, or a backend or device that cannot be had.
            MemoryError: a sparse X too large for a dense copy.
        """
        routing._raise_for_params(params, self, "fit")
        self._validate_params()
        Cs, ratios = self._grid()
        check_parameters(self._one(Cs[0], max(ratios)))
        rows = training_rows(self, X, y, sample_weight)
        if sample_weight is not None:
            sample_weight = numpy_of(checked_weights(sample_weight, rows.X))
        to_split, to_score = self._routed(sample_weight, params)
        labels, every = numpy_of(rows.classes)[rows.y.cpu().numpy()], np.arange(len(rows.X))
        pairs = check_cv(self.cv, labels, classifier=True).split(X, labels, **to_split)
        folds = [(every[numpy_of(train)], every[numpy_of(test)]) for train, test in pairs]
        paths = self._fit_folds(rows, folds, Cs, ratios)
        known = self.scoring or "accuracy"
        # fit_many weights its scores by what it weights its fits by, class weights included.
        same = self.class_weight is None and [*to_score] == ([] if sample_weight is None else ["sample_weight"])
        scores = self._score_folds(paths, rows, folds, to_score, known if same and known in _SCORED else None)
        # The first of equal scores, C by C and not ratio by ratio, as in scikit-learn.
        by_C = scores.transpose(0, 2, 1)
        tables = [by_C.sum(axis=0)] if self.refit else list(by_C)
        c, r = np.array([np.unravel_index(table.argmax(), table.shape) for table in tables]).T
        C, ratio = float(Cs[c].mean()), float(ratios[r].mean())
        if self.refit:
            # Not from the mean of the folds' models, as scikit-learn does, which would save a few evaluations: so the
            # model is to the last digit that of LogisticRegression, and of weighted rows that of repeated ones.
            one = self._one(C, ratio)
            result = one._optimise(rows, fit_options(one, float(rows.mass.sum())), (X, y, sample_weight))
            if result is None or not result.converged:
                warnings.warn(shortfall(result), ConvergenceWarning, stacklevel=2)
            for name in _OF_MODEL:
                setattr(self, name, getattr(one, name))
        else:
            chosen = (np.arange(len(folds)), r, c)
            weight, bias = (each[chosen].mean(dim=0) for each in (paths.weight, paths.bias))
            self.__dict__.update(self._attributes(weight, bias, rows))
            self.gap_ = float(paths.numbers["relative_gap"][chosen].max())
        self._report(paths, scores, rows, (C, ratio))
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None, **score_params: Any) -> float:
        """Return the score that `scoring` names.

        Args:
            X: [n, D].
            y: [n] labels.
            sample_weight: [n].
            score_params: of the scorer, where metadata routing is on.
        """
        routing._raise_for_params(score_params, self, "score")
        if sample_weight is not None:
            score_params["sample_weight"] = numpy_of(sample_weight)
        if routing._routing_enabled():
            score_params = routing.process_routing(self, "score", **score_params).scorer.score
        if self.scoring in (None, "accuracy"):
            return super().score(X, y, **score_params)
        if not is_device_array(X):
            return float(self._get_scorer()(self, X, numpy_of(y) if is_device_array(y) else y, **score_params))
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="coef_", method="score")
        model = HeldOutModel.of(as_tensor(X), numpy_of(self.classes_), copied=callable(self.scoring))
        model.take(as_tensor(self.coef_), as_tensor(self.intercept_), self._lacking)
        return float(self._get_scorer()(model, model.stand_in, numpy_of(y), **score_params))

    def to_sklearn(self) -> Any:
        """Return a fitted `sklearn.linear_model.LogisticRegression` with the same coefficients, as NumPy arrays.

        Raises:
            NotFittedError: before `fit`.
        """
        check_is_fitted(self)
        one = self._one(*(float(numpy_of(each).flat[0]) for each in (self.C_, self.l1_ratio_)))
        for name in (*_OF_MODEL, "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(one, name, getattr(self, name))
        one.n_iter_ = numpy_of(self.n_iter_).max().reshape(1)
        return one.to_sklearn()

    def get_metadata_routing(self) -> Any:
        """Return what is handed on to the splitter and the scorer, as scikit-learn's metadata routing asks for it."""
        scored = routing.MethodMapping().add(caller="score", callee="score").add(caller="fit", callee="score")
        split = routing.MethodMapping().add(caller="fit", callee="split")
        router = routing.MetadataRouter(owner=self).add_self_request(self).add(splitter=self.cv, method_mapping=split)
        return router.add(scorer=self._get_scorer(), method_mapping=scored)

    def _get_scorer(self) -> Any:
        return get_scorer(self.scoring or "accuracy")

    def _routed(self, sample_weight: Any, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the splitter and the scorer are given."""
        if routing._routing_enabled():
            routed = routing.process_routing(self, "fit", sample_weight=sample_weight, **params)
            return routed.splitter.split, routed.scorer.score
        return {}, {} if sample_weight is None else {"sample_weight": sample_weight}

    def _one(self, C: float, l1_ratio: float) -> LogisticRegression:
        """Return an estimator of one of the models."""
        return LogisticRegression(
            C=float(C), l1_ratio=float(l1_ratio), **{name: getattr(self, name) for name in _SHARED}
        )

    def _grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return all C, and all shares of the l1 term."""
        Cs = np.logspace(-4, 4, self.Cs) if isinstance(self.Cs, Integral) else np.asarray(self.Cs, dtype=np.float64)
        if Cs.ndim != 1 or not len(Cs) or not (Cs > 0).all():
            raise ValueError(f"Cs is {self.Cs!r}; must be a number of C, or a list of C above 0")
        ratios = np.zeros(1) if self.l1_ratios is None else np.asarray(self.l1_ratios, dtype=np.float64)
        if ratios.ndim != 1 or not len(ratios) or not ((ratios >= 0) & (ratios <= 1)).all():
            raise ValueError(f"l1_ratios must be an array-like of numbers between 0 and 1; got {self.l1_ratios!r}")
        if self.penalty in ("l1", "l2"):
            if self.l1_ratios is not None:
                warnings.warn(f"penalty={self.penalty!r} ignores l1_ratios", UserWarning, stacklevel=3)
            ratios = np.array([1.0 if self.penalty == "l1" else 0.0])
        return Cs, ratios

    def _fit_folds(
        self, rows: TrainingRows, folds: list[Fold], Cs: NDArray[np.float64], ratios: NDArray[np.float64]
    ) -> _Paths:
        """Return the models: side by side, but those of folds that `fit_many` does not take, one after the other."""
        F, R, L, D, K = len(folds), len(ratios), len(Cs), rows.X.shape[1], len(rows.mass)
        width = 1 if K == 2 else K
        weight = torch.zeros((F, R, L, width, D), dtype=torch.float64, device=rows.X.device)
        names = ("iterations", "relative_gap", *_SCORED)
        numbers = {name: np.full((F, R, L), np.nan) for name in names}
        paths = _Paths(Cs, ratios, weight, weight.new_zeros((F, R, L, width)), numbers, {})
        plain = [f for f, fold in enumerate(folds) if K <= MOST_CLASSES and self._is_plain(rows, *fold)]
        values, place = np.unique(Cs, return_inverse=True)
        options = fit_options(self._one(1.0, 0.0), 1.0)
        for r, ratio in enumerate(ratios) if plain else ():
            of = fit_many(
                rows.X,
                rows.y,
                C=values.tolist(),
                l1_ratio=float(ratio),
                folds=[folds[f] for f in plain],
                sample_weight=rows.weight,
                classes=K,
                refit=False,
                backend=self.backend,
                on_done=(lambda done, total: print(f"{done} of {total} models")) if self.verbose else None,
                **{name: options[name] for name in ("intercept", "tolerance", "max_iterations")},
            )["y"]
            paths.weight[plain, r] = of.weight.reshape(-1, len(plain), width, D)[place].transpose(0, 1)
            paths.bias[plain, r] = of.bias.reshape(-1, len(plain), width)[place].transpose(0, 1)
            for name in names:
                numbers[name][plain, r] = getattr(of, name)[place].T
        for f in sorted({*range(F)} - {*plain}):
            self._fit_alone(rows, f, folds[f][0], paths)
        gaps = numbers["relative_gap"]
        short = int((~(gaps <= options["tolerance"])).sum())
        if short:
            message = f"{short} of the {gaps.size} models of the folds ended above tol: increase max_iter or tol"
            warnings.warn(message, ConvergenceWarning, stacklevel=3)
        return paths

    def _is_plain(self, rows: TrainingRows, train: NDArray[np.int64], test: NDArray[np.int64]) -> bool:
        """Return whether `fit_many` takes a fold: no row is in it twice, some are held out, and none of the classes is
        absent from its training rows."""
        once = np.bincount(np.concatenate([train, test]), minlength=len(rows.X)).max() == 1
        return bool(once) and len(test) > 0 and bool((self._mass(rows, train) > 0).all())

    def _mass(self, rows: TrainingRows, train: NDArray[np.int64]) -> Tensor:
        """Return the sums of the training rows' weights by class, [K] float64."""
        at = torch.from_numpy(train).to(rows.y.device)
        weight = None if rows.weight is None else rows.weight[at].double()
        return torch.bincount(rows.y[at], weights=weight, minlength=len(rows.mass)).double()

    def _fit_alone(self, rows: TrainingRows, f: int, train: NDArray[np.int64], paths: _Paths) -> None:
        """Fit a fold's models one after the other: the classes that it lacks get no probability."""
        at, mass = torch.from_numpy(train).to(rows.y.device), self._mass(rows, train)
        present = mass > 0
        paths.numbers["iterations"][f], paths.numbers["relative_gap"][f] = 1, 0
        if not bool(present.any()):
            raise ValueError(f"fold {f} trains on no row with a weight above 0; must have some")
        if not bool(present.all()):
            paths.lacking[f] = numpy_of(~present)
        if int(present.sum()) == 1:
            certain = torch.where(present, 0.0, -BELOW)
            paths.bias[f] = certain if len(mass) > 2 else certain[1] - certain[0]
            return
        weight = None if rows.weight is None else rows.weight[at]
        part = TrainingRows(rows.X[at], rows.y[at], weight, mass, rows.classes, rows.X)
        for r, ratio in enumerate(paths.ratios):
            one = self._one(1.0, ratio).set_params(warm_start=True)
            for place in np.argsort(paths.Cs):
                one.C = float(paths.Cs[place])
                one._optimise(part, fit_options(one, float(mass.sum())), (part.X, part.y, weight))
                paths.weight[f, r, place], paths.bias[f, r, place] = one.coef_.double(), one.intercept_.double()
                paths.numbers["iterations"][f, r, place] = int(one.n_iter_[0])
                paths.numbers["relative_gap"][f, r, place] = one.gap_

    def _score_folds(
        self,
        paths: _Paths,
        rows: TrainingRows,
        folds: list[Fold],
        params: dict[str, Any],
        known: str | None,
    ) -> NDArray[np.float64]:
        """Return the scores of the rows that each fold holds out, [F, R, L].

        Args:
            params: of the scorer.
            known: the score, if those of `fit_many` are the same.
        """
        classes = numpy_of(rows.classes)
        scores = np.full(paths.numbers["iterations"].shape, np.nan)
        scorer = knowing_labels(self._get_scorer(), classes)
        for f, (_, test) in enumerate(folds):
            if known and np.isfinite(paths.numbers[known][f]).all():
                scores[f] = paths.numbers[known][f]
                continue
            at = torch.from_numpy(test).to(rows.y.device)
            model = HeldOutModel.of(rows.X[at], classes, copied=callable(self.scoring))
            y, of_fold = classes[rows.y[at].cpu().numpy()], _check_method_params(rows.y, params, indices=test)
            for r, c in np.ndindex(scores.shape[1:]):
                model.set_params(C=float(paths.Cs[c]), l1_ratio=float(paths.ratios[r]))
                model.take(paths.weight[f, r, c], paths.bias[f, r, c], paths.lacking.get(f))
                scores[f, r, c] = scorer(model, model.stand_in, y, **of_fold)
        return scores

    def _report(
        self, paths: _Paths, scores: NDArray[np.float64], rows: TrainingRows, best: tuple[float, float]
    ) -> None:
        """Set the attributes that speak of the folds, in the kind of array that X was."""
        dtype = self.coef_.dtype if isinstance(self.coef_, Tensor) else as_tensor(self.coef_).dtype
        path = torch.cat([paths.weight, paths.bias[..., None]], dim=-1) if self.fit_intercept else paths.weight
        path, iterations = path.to(dtype), paths.numbers["iterations"].astype(np.int32)

        def given(values: Any) -> Any:
            return like(rows.reference, torch.as_tensor(values))

        self.Cs_, self.l1_ratios_ = (given(each) for each in (paths.Cs, paths.ratios))
        self.C_, self.l1_ratio_ = best
        self.coefs_paths_, self.scores_, self.n_iter_ = given(path), given(scores), given(iterations)
        if not self.use_legacy_attributes:
            return
        ratios = 0 if self.l1_ratios is None else slice(None)
        K = path.shape[-2]
        self.C_, self.l1_ratio_ = (given(np.full(K, value)) for value in best)
        legacy = path.permute(3, 0, 2, 1, 4)[:, :, :, ratios], scores.transpose(0, 2, 1)[:, :, ratios]
        classes = numpy_of(rows.classes)[-K:].tolist()
        self.coefs_paths_ = {name: given(of) for name, of in zip(classes, legacy[0], strict=True)}
        self.scores_ = {name: given(legacy[1]) for name in classes}
        self.n_iter_ = given(iterations.transpose(0, 2, 1)[None, :, :, ratios])
