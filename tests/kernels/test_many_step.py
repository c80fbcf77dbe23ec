"""The step of many models by numbers known by hand: one parameter, theta = 0 and gradient -1 at the start."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DONE, OVER, REACHED, LOW, NEAR = 1, 2, 4, 8, 16
F64 = torch.float64


class At(NamedTuple):
    """What was found at a trial point."""

    gradient: Tensor
    value: Tensor
    gap: Tensor
    held_loss: Tensor


def at(value: float, gap: float, gradient: float = -1.0) -> At:
    g, *numbers = (torch.tensor([each], dtype=F64, device=DEVICE) for each in (gradient, value, gap, 10 * value))
    return At(g[None], *numbers)


class OneModel:
    """A step with M = 1, a goal of 1e-3 and a floor of 1e-2."""

    def __init__(self, kernels: ModuleType, **limits: Any) -> None:
        one = torch.ones(1, 1, dtype=F64, device=DEVICE)
        known = {"memory": 2, "curved": 1e-14, "noise": 2e-14, "rough_noise": 1e-6, "near": 100.0, "stalled": 9}
        self.step = kernels.ModelsStep(
            one, one, center=None, weight_sum=one[0], goal=1e-3 * one[0], floor=1e-2 * one[0], classes=1,
            intercept=False, refusals=2, **(known | limits),
        )  # fmt: skip
        self.q = self.step.begin(0 * one, at(1.0, 0.5), (np.zeros(1, np.int64), 1, 1), rough=False, proofs=False)

    def trial(self) -> float:
        return float(self.step.next_points(self.q, F64)[0])

    def judge(self, found: At, **options: Any) -> int:
        self.trial()
        self.q = self.step.judge(found, **({"rough": False, "proofs": False} | options))
        return int(self.step.status)


def test_the_first_trial_is_the_step_of_m(kernels: ModuleType) -> None:
    model = OneModel(kernels)
    assert model.trial() == 1.0
    assert int(model.step.status) == 0


def test_refused_steps_are_shortened_by_a_parabola_until_the_model_is_given_up(kernels: ModuleType) -> None:
    """P rose by 1 where it should have fallen by 1: the parabola's least is at a quarter. NaN says a tenth."""
    model = OneModel(kernels)
    assert model.judge(at(2.0, 1e-4)) == 0
    assert model.trial() == 0.25
    assert model.judge(at(float("nan"), 1e-4)) == OVER
    assert model.trial() == pytest.approx(0.025, rel=1e-15)
    np.testing.assert_array_equal(model.step.values(np.zeros(1, np.int64))[:, 0], [1.0, 0.5, 10.0])


def test_an_accepted_point_keeps_its_pair(kernels: ModuleType) -> None:
    """The step of 1 changed the gradient by 1/2, so that the next one is 1 / (1/2) times the gradient left."""
    model = OneModel(kernels)
    assert model.judge(at(0.5, 0.1, gradient=-0.5)) == NEAR
    assert model.trial() == 2.0
    assert model.judge(at(0.25, 5e-3, gradient=-0.25), forget=True) == LOW + NEAR
    assert model.trial() == 2.25
    np.testing.assert_array_equal(model.step.values(np.zeros(1, np.int64))[:, 0], [0.25, 5e-3, 2.5])


def test_pairs_of_refused_points_and_of_negative_curvature_are_left_out(kernels: ModuleType) -> None:
    model = OneModel(kernels)
    model.judge(at(2.0, 0.5, gradient=-0.5))
    model.judge(at(0.5, 0.4, gradient=-1.5))
    assert model.trial() == 0.25 + 1.5


@pytest.mark.parametrize("rough", [True, False])
def test_noise_of_float32_is_no_increase(kernels: ModuleType, rough: bool) -> None:
    """The pass after one in float32 has its noise too."""
    model = OneModel(kernels)
    model.judge(at(0.5, 0.1, gradient=-1e-9), rough=rough)
    model.judge(at(0.5 + 1e-7, 0.2, gradient=1e-9))
    assert (model.step.values(np.zeros(1, np.int64))[1, 0] == 0.2) == rough


def test_a_gap_ends_a_model_where_it_is_a_proof(kernels: ModuleType) -> None:
    model = OneModel(kernels)
    assert model.judge(at(0.5, 1e-3)) == REACHED + LOW + NEAR
    assert model.judge(at(0.4, 1e-3), proofs=True) == DONE + OVER + REACHED + LOW + NEAR


def test_an_estimate_of_a_point_that_stays_is_no_proof(kernels: ModuleType) -> None:
    model = OneModel(kernels)
    assert model.judge(at(0.5, 1e-4)) & REACHED
    assert model.judge(at(2.0, 1e-5), proofs=True, first_proofs=True) == 0


def test_a_model_that_stalls_is_given_up(kernels: ModuleType) -> None:
    """A gap has to fall by a tenth."""
    model = OneModel(kernels, stalled=2)
    assert model.judge(at(0.9, 0.44)) == 0
    assert model.judge(at(0.8, 0.43)) == 0
    assert model.judge(at(0.7, 0.42)) == OVER


def test_models_that_are_left_keep_their_rows(kernels: ModuleType) -> None:
    """Of three models with gradients -1, -2 and -3 the last two go on, in another layout of their vectors."""
    ones = torch.ones(1, 3, dtype=F64, device=DEVICE)
    step = kernels.ModelsStep(
        ones, ones, center=None, weight_sum=ones[0], goal=1e-3 * ones[0], floor=1e-2 * ones[0], classes=1,
        intercept=False, memory=2, curved=0.0, noise=2e-14, rough_noise=1e-6, near=1.0, refusals=9, stalled=9,
    )  # fmt: skip
    sizes = torch.tensor([1.0, 2.0, 3.0], dtype=F64, device=DEVICE)
    layout = np.array([2, 0, 1]), 3, 3
    q = step.begin(0 * ones, At(-sizes[None], sizes, sizes, sizes), layout, rough=False, proofs=False)
    assert q.tolist() == [-2.0, -3.0, -1.0]
    step.chosen(np.array([1, 2]), (np.array([1, 0]), 2, 2))
    W, b = step.next_points(q, torch.float32)
    assert W.tolist() == [[2.0, 3.0]]
    assert b.tolist() == [0.0, 0.0]
    some = sizes[1:] / 4
    q = step.judge(At(-some[None], some, some, some), rough=False, proofs=False, forget=True)
    assert q.tolist() == [-0.75, -0.5]
    assert step.theta.tolist() == [[2.0, 3.0]]
    assert step.values(np.array([1])).tolist() == [[0.75], [0.75], [0.75]]
