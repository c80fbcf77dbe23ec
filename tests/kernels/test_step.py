"""What happens between two passes, as a kernel: against the solvers, which do the same in torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from flashlogit import reference
from flashlogit.objectives.logistic import Logistic
from flashlogit.objectives.objective import Objective, Point
from flashlogit.solvers.lbfgs import LBFGS
from flashlogit.solvers.method import Start
from flashlogit.solvers.newton import Newton
from flashlogit_kernels.contract import LOSS
from flashlogit_kernels.gpu.steps.step import Step, fits_step

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
F64, F32 = torch.float64, torch.float32
METHODS = pytest.mark.parametrize("method", ["lbfgs", "newton"])
COORDINATES = pytest.mark.parametrize(
    ("intercept", "center"), [(False, None), (True, None), (True, "folded"), (True, "subtracted")]
)


@dataclass(frozen=True)
class Fits:
    """K logistic regressions over one X with scales and penalties of their own: what a solver and a step may ask.

    X [N, D], Y [N, K], scale and l2 [P]; center [D] is folded into the intercept, or subtracted by the pass.
    """

    X: Tensor
    Y: Tensor
    scale: Tensor
    l2: Tensor
    center: Tensor | None
    folded: bool

    null_value, product_dtype, penalised, l1 = 0.7, F64, True, 0.0

    @classmethod
    def drawn(
        cls, P: int = 6, K: int = 1, *, N: int = 60, intercept: bool = True, center: str | None = "folded"
    ) -> Fits:
        generator = torch.Generator().manual_seed(P + K)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=F64).to(DEVICE)

        D = P - intercept
        X = normal(N, D) + 0.5 * normal(D)
        Y = (X @ normal(D, K) / max(D, 1) ** 0.5 + normal(N, K) + 0.3 > 0).to(F64)
        l2 = torch.full((P,), 0.05, dtype=F64, device=DEVICE) + 0.02 * normal(P).square()
        if intercept:
            l2[-1] = 0.0
        mean = X.mean(dim=0) if intercept and center else None
        return cls(X, Y, 1.5 + 0.2 * normal(P).tanh(), l2, mean, center == "folded")

    @property
    def intercept(self) -> bool:
        return len(self.scale) > self.X.shape[1]

    @property
    def parameters(self) -> int:
        return len(self.scale)

    @property
    def l1_of(self) -> Tensor:
        return torch.zeros_like(self.scale)[:, None]

    def alone(self, k: int) -> Fits:
        return replace(self, Y=self.Y[:, k : k + 1])

    def canonical(self, theta: Tensor) -> Tensor:
        return theta

    def rows(self) -> Tensor:
        """The columns by which theta is multiplied, [N, P]."""
        X = self.X if self.center is None else self.X - self.center
        return (torch.cat([X, torch.ones_like(X[:, :1])], dim=1) if self.intercept else X) * self.scale

    def evaluate(self, theta: Tensor, *, certified: bool = True, last: bool = False) -> Point:
        D = self.X.shape[1]
        l2, A = self.l2[:, None], self.rows()
        z = A @ theta
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, self.Y, reduction="none").mean(dim=0)
        value = loss + 0.5 * (l2 * theta.square()).sum(dim=0)
        gradient = A.t() @ (z.sigmoid() - self.Y) / len(A) + l2 * theta
        gap = (gradient[:D].square() / (2 * l2[:D])).sum(dim=0) + gradient[D:].square().sum(dim=0)
        return Point(theta, gradient, value, torch.minimum(gap, value))

    def hessian(self, theta: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        A = self.rows()
        p = (A @ theta).sigmoid()
        return torch.einsum("np,nk,nq->kpq", A, p * (1 - p) / len(A), A) + torch.diag(self.l2)

    def step(self, method: Any, start: Tensor, state: dict[str, Tensor] | None = None, **limits: float) -> Step:
        """A step's state at `start` [P, K]."""
        center = self.center if self.folded else None
        sizes = {"weight_sum": float(len(self.X)), "intercept": self.intercept, "models": self.Y.shape[1]}
        center = None if center is None else center.cpu()
        step = Step(self.scale.cpu(), self.l2.cpu(), center=center, method=method, device=DEVICE, **sizes, **limits)
        step.begin(start, state)
        return step

    def start(self, size: float = 0.0) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        return size * torch.randn(len(self.scale), self.Y.shape[1], generator=generator, dtype=F64).to(DEVICE)

    def sums(self, step: Step, *, border: bool = False, matrix: bool = False) -> Tensor:
        """What a pass at the models' next points gives, [K, D + 5], or with the border and the matrix behind it."""
        center = None if self.folded else self.center
        packed = []
        for k, y in enumerate(self.Y.t()):
            w, b = step.weights(F64, k)
            found = reference.bce_onepass(
                self.X, y, w, b, curvature=True, border=border or matrix, center=center, eps=0.0
            )
            X = self.X if center is None else self.X - center
            square = (X.t() * found.curvature @ X).reshape(-1)
            packed.append(torch.cat([found.packed, square] if matrix else [found.packed]))
        return torch.stack(packed)


def next_point(step: Step, fits: Fits, k: int) -> Tensor:
    """The theta [P] whose weights and bias a model has for its next pass."""
    w, b = step.weights(F64, k)
    if not fits.intercept:
        assert b == 0
        return w / fits.scale
    if fits.folded:
        b = b + fits.center @ w
    return torch.cat([w, b]) / fits.scale


def check_point(step: Step, fits: Fits, twin: LBFGS | Newton, k: int, *, proven: bool = False) -> None:
    """Assert that a model is where its twin is, and tries next what its twin would."""
    search, (status, value, gap, norm, _, refused, decrement, _) = twin.search, step.numbers[k].tolist()
    close = {"rtol": 1e-9, "atol": 1e-13}
    torch.testing.assert_close(step.theta[:, k], search.theta[:, 0], **close)
    torch.testing.assert_close(step.gradient[:, k], search.at.gradient[:, 0], **close)
    known = search.numbers
    assert (value, norm) == pytest.approx((known.value, known.gradient_norm), rel=1e-8)
    assert refused == search.refused
    if refused == 0 and not proven:
        assert gap == pytest.approx(known.gap, rel=1e-8, abs=1e-20)
    if status == 0:
        assert decrement == pytest.approx(twin.decrement, rel=1e-8)
    ended = search.theta if status else search.trial
    moved = (next_point(step, fits, k) - step.theta[:, k]) - (ended - search.theta)[:, 0]
    assert moved.norm() <= 1e-9 * (ended - search.theta).norm() + 1e-13 * search.theta.norm()
    for mine, exact in zip(step.weights(torch.float32, k), step.weights(F64, k), strict=True):
        assert torch.equal(mine, exact.float())


def advance(step: Step, fits: Fits, *, first: bool = False) -> None:
    """One pass and one step; Newton begins with a Hessian, and gets another one where a model wants it."""
    if first and step.method == "newton":
        step.hessian(fits.sums(step, matrix=True), first=True)
    else:
        step.advance(fits.sums(step), first=first)
    if (step.status == 3).any():
        step.hessian(fits.sums(step, matrix=True))


def check_trajectories(
    fits: Fits, method: str, start: Tensor, steps: int, stop_gap: float, *, every: int = 1
) -> Tensor:
    """Assert that models go as their twins do until they end; return when, and how many refusals each had.

    Only every so many models go at all: the others are of a status that lets them wait, and keep their bits.
    """
    K = fits.Y.shape[1]
    waiting = torch.arange(K) % every != 0
    twins = [(LBFGS if method == "lbfgs" else Newton)(fits.alone(k), Start(start[:, [k]], 1e-12)) for k in range(K)]
    step = fits.step(method, start, stop_gap=stop_gap)
    step.status[waiting] = 1
    before = [tensor[waiting].clone() for tensor in tensors(step)]
    ended, refusals = torch.full((K,), steps), torch.zeros(K)
    for count in range(steps):
        advance(step, fits, first=count == 0)
        for k, twin in enumerate(twins):
            if waiting[k]:
                continue
            if count > 0 and ended[k] == steps:
                refusals[k] += not twin.advance()
            status = int(step.status[k])
            assert (status == 1) == (twin.search.numbers.gap <= stop_gap)
            ended[k] = min(int(ended[k]), count) if status == 1 else steps
            # A Hessian's pass sums what proves the gap as well.
            check_point(step, fits, twin, k, proven=count == 0 and method == "newton")
            assert step.numbers[k, 0] == status
    assert all(map(torch.equal, before, [tensor[waiting] for tensor in tensors(step)]))
    return torch.stack([ended, refusals])[:, ~waiting]


def tensors(step: Step) -> list[Tensor]:
    """All that a step may write, [K, ...] each."""
    K, pitch = len(step.status), step._pitch
    weights = [torch.stack([torch.cat(step.weights(kind, k)) for k in range(K)]) for kind in (F64, F32)]
    sizes = {"LIMITS": 4, "KEPT": 5, "VECTORS": 7 * pitch, "MATRICES": 2144}
    state = [step._rows(name, size) for name, size in sizes.items() if name in step._pieces]
    return [*weights, step.numbers, step.status, step._memory, *state]


@METHODS
@COORDINATES
def test_a_step_goes_where_the_solver_goes(method: str, intercept: bool, center: str | None) -> None:
    fits = Fits.drawn(intercept=intercept, center=center)
    ended, _ = check_trajectories(fits, method, fits.start(), 12, 1e-7)
    assert 2 < ended < 12


@METHODS
def test_from_far_away_steps_are_refused(method: str) -> None:
    """Each as often as by the solver, and with as long a step the next time."""
    fits = Fits.drawn(K=3)
    ended, refusals = check_trajectories(fits, method, fits.start(8.0), 12, 1e-2)
    assert refusals.max() > 1
    assert len(set(refusals.tolist())) > 1
    assert ended.min() < 12


@METHODS
def test_models_that_have_ended_wait(method: str) -> None:
    """Some of a hundred go, and end at different times."""
    fits = Fits.drawn(4, 100, N=25)
    ended, _ = check_trajectories(fits, method, fits.start(), 6, 1e-5, every=20)
    assert len(set(ended.tolist())) > 1


@pytest.mark.parametrize("P", [1, 2, 29, 33, 65, 129, 1025])
@METHODS
def test_sizes(method: str, P: int) -> None:
    if not fits_step(P, method):
        pytest.skip("too wide for the method")
    fits = Fits.drawn(P, N=40 + P // 4, intercept=P > 1)
    check_trajectories(fits, method, fits.start(), 4, 1e-12)


def test_newtons_step_of_several_wide_models() -> None:
    """Their Hessians are inverted by torch, side by side."""
    fits = Fits.drawn(70, 2, N=120)
    check_trajectories(fits, "newton", fits.start(), 3, 1e-12)


def test_the_widest_step_of_lbfgs() -> None:
    fits = Fits.drawn(16_384, N=10)
    check_trajectories(fits, "lbfgs", fits.start(), 2, 1e-12)


@pytest.mark.parametrize(("method", "P"), [("newton", 130), ("lbfgs", 16_385)])
def test_more_parameters_are_refused(method: Any, P: int) -> None:
    ones = torch.ones(P, dtype=F64)
    with pytest.raises(ValueError, match=str(P)):
        Step(ones, ones, center=None, weight_sum=1.0, intercept=False, method=method, device=DEVICE)
    assert fits_step(P - 1, method)


@dataclass(frozen=True)
class Case:
    """An objective of the solvers, a point near its optimum but for the intercept, and a step that begins there."""

    objective: Objective
    theta: Tensor
    step: Step
    sums: Tensor
    """With border and matrix, [1, 2 D + 6 + D D]."""

    @classmethod
    def drawn(cls, method: Any, *, far: bool, intercept: bool, mean: float, D: int = 5) -> Case:
        """Columns of mean 0.3 are centred by the intercept, of mean 30 by the pass."""
        generator = torch.Generator().manual_seed(D)
        X = torch.randn(80, D, generator=generator, dtype=F64) + mean
        y = (X[:, 0] - mean + torch.randn(80, generator=generator, dtype=F64) > 0.5).to(torch.uint8)
        s = torch.rand(80, generator=generator, dtype=F64) + 0.5
        objective = Objective.of(X, Logistic.of(y, s, reference, intercept=intercept), l1=0.0, l2=0.02)
        theta = torch.randn(D + intercept, 1, generator=generator, dtype=F64) * 0.01
        for _ in range(2):
            theta = theta - torch.linalg.solve(objective.hessian(theta)[0], objective.evaluate(theta).gradient)
        if far:
            theta[-1] += 1.0 / objective.scale[-1]
        coordinates = objective.design.coordinates
        center = None if coordinates.subtract else coordinates.center
        step = Step(
            objective.scale[:, 0].cpu(),
            objective.l2_of[:, 0].cpu(),
            center=None if center is None else center.cpu(),
            device=DEVICE,
            weight_sum=objective.loss.weight_sum,
            intercept=intercept,
            method=method,
        )
        step.begin(theta)
        w, b = step.weights(F64)
        at = objective.for_pass(theta)
        torch.testing.assert_close((w, b), (at.W[:, 0], at.b), rtol=1e-13, atol=1e-14)
        options: Any = {"sample_weight": s, "eps": 0.0, "center": objective.design.center}
        packed = reference.bce_onepass(X, y, w, b, border=True, **options).packed
        matrix = reference.bce_hessian(X, y, w, b, **options).matrix[:D, :D].reshape(-1)
        return cls(objective, theta, step, torch.cat([packed, matrix])[None])

    @property
    def bordered(self) -> Tensor:
        return self.sums[:, : 2 * self.objective.X.shape[1] + 6].contiguous()


CASES = pytest.mark.parametrize(("intercept", "mean"), [(False, 0.3), (True, 0.3), (True, 30.0)])


@CASES
@pytest.mark.parametrize("far", [False, True])
def test_the_gap_of_a_pass_with_its_border_is_proven(intercept: bool, mean: float, far: bool) -> None:
    """It is what the certificate says; where the intercept is off by 1 that is P."""
    case = Case.drawn("lbfgs", far=far, intercept=intercept, mean=mean)
    point = case.objective.evaluate(case.theta, certified=True)
    certificate = case.objective.certify(point)
    case.step.advance(case.bordered, exact=True, first=True)
    value, gap, norm = case.step.numbers[0, 1:4].tolist()
    assert (value, gap) == pytest.approx((certificate.objective, certificate.gap), rel=1e-11)
    assert (gap == value) == (far and intercept)
    assert norm == pytest.approx(float(point.gradient.norm()), rel=1e-11)
    torch.testing.assert_close(case.step.gradient, point.gradient, rtol=1e-10, atol=1e-13)


@CASES
@pytest.mark.parametrize("D", [5, 64, 70])
def test_a_new_hessian_is_the_objectives(intercept: bool, mean: float, D: int) -> None:
    """Within the kernel, and by torch for more parameters; at the start, and where a model wants another one."""
    case = Case.drawn("newton", far=False, intercept=intercept, mean=mean, D=D)
    step, hessian = case.step, case.objective.hessian(case.theta)
    step.hessian(case.sums, first=True)
    for _ in range(2):
        gradient = case.objective.evaluate(case.theta).gradient
        exact = -torch.linalg.solve(hessian[0], gradient)
        w, b = step.weights(F64)
        center = case.objective.design.coordinates.center * (case.objective.design.center is None)
        scaled = torch.cat([w, b + center @ w])[: len(exact)]
        direction = scaled[:, None] / case.objective.scale - case.theta
        assert (direction - exact).norm() <= 1e-10 * exact.norm()
        assert step.numbers[0].tolist()[4:] == pytest.approx([1.0, 0.0, -0.5 * float(gradient.t() @ exact), 1.0])
        assert step.status == 0
        torch.testing.assert_close(torch.linalg.inv(step.inverse), hessian, rtol=1e-9, atol=1e-12)
        step.status.fill_(3)
        step.hessian(case.sums)


@pytest.mark.parametrize("D", [5, 64, 70])
def test_a_hessian_without_factors_is_told(D: int) -> None:
    case = Case.drawn("newton", far=False, intercept=True, mean=0.3, D=D)
    case.sums[0, 2 * D + 6] = -1e9
    case.step.hessian(case.sums, first=True)
    assert case.step.status == 5
    assert torch.equal(next(iter(case.step.theta.t())), case.theta[:, 0])


@METHODS
def test_a_point_that_is_not_finite(method: str) -> None:
    """It ends a fit that begins there, and later is refused as any other."""
    fits = Fits.drawn()
    step, bad = fits.step(method, fits.start()), torch.full((1, 10), torch.nan, dtype=F64, device=DEVICE)
    step.advance(bad, first=True)
    assert step.status == 2
    step.begin(fits.start())
    assert step.status == 0
    advance(step, fits, first=True)
    theta, trial = step.theta.clone(), next_point(step, fits, 0)
    step.advance(bad)
    assert (int(step.status), float(step.numbers[0, 5])) == (0, 1.0)
    assert torch.equal(step.theta, theta)
    torch.testing.assert_close(next_point(step, fits, 0), 0.1 * trial, rtol=1e-12, atol=0.0)


def test_newton_says_when_its_hessian_misleads() -> None:
    """An old one after two refusals, a new one after four; then the next point is the accepted one."""
    fits = Fits.drawn()
    step, bad = fits.step("newton", fits.start()), torch.full((1, 10), torch.nan, dtype=F64, device=DEVICE)
    advance(step, fits, first=True)
    found = []
    for _ in range(4):
        step.advance(bad)
        found.append(int(step.status))
    assert found == [0, 0, 0, 4]
    step.hessian(fits.sums(step, matrix=True))
    advance(step, fits)
    theta = step.theta.clone()
    step.advance(bad)
    assert step.status == 0
    step.advance(bad)
    assert step.status == 3
    assert torch.equal(step.theta, theta)
    torch.testing.assert_close(next_point(step, fits, 0), theta[:, 0], rtol=1e-13, atol=1e-15)


@METHODS
def test_an_ended_fit_goes_on_with_a_smaller_gap(method: str) -> None:
    fits = Fits.drawn()
    step = fits.step(method, fits.start(), stop_gap=1e-3)
    advance(step, fits, first=True)
    while step.status == 0:
        advance(step, fits)
    gap = float(step.numbers[0, 2])
    assert gap <= 1e-3
    step.resume(stop_gap=1e-3 * gap)
    step.advance(fits.sums(step), first=True)
    for _ in range(12):
        advance(step, fits)
    assert step.status == 1
    assert step.numbers[0, 2] <= 1e-3 * gap


@pytest.mark.parametrize("steps", [6, 27])
def test_pairs_are_handed_over(steps: int) -> None:
    """To the solver, and from the one to the other step, before the ring of pairs is full and after."""
    fits = Fits.drawn(29, 2, N=100)
    step = fits.step("lbfgs", fits.start())
    for count in range(steps):
        advance(step, fits, first=count == 0)
    state = {name: tensor for name, tensor in step.state().items() if name != "step"}
    assert state["used"].sum(dim=0).tolist() == [min(steps - 1, 20)] * 2
    other = fits.step("lbfgs", step.theta, state)
    other.advance(fits.sums(other), first=True)
    for k in range(2):
        known = {name: tensor[..., [k]] for name, tensor in state.items()}
        twin = LBFGS(fits.alone(k), Start(step.theta[:, [k]], 1e-12, state=known))
        check_point(other, fits, twin, k)
        check_point(step, fits, twin, k)
    for _ in range(2):
        advance(step, fits)
        advance(other, fits)
        torch.testing.assert_close(other.theta, step.theta, rtol=1e-8, atol=1e-12)
    for name in state:
        torch.testing.assert_close(other.state()[name], step.state()[name], rtol=1e-3, atol=1e-9)
    again = fits.step("lbfgs", torch.zeros_like(step.theta), step.state())
    advance(step, fits)
    advance(again, fits)
    assert torch.equal(again.state()["step"], step.state()["step"])


@METHODS
def test_a_points_noise_is_that_of_its_own_pass(method: str) -> None:
    """Summed in float32, it stays the accepted one until a better one is; only then float64 shows smaller changes."""
    fits = Fits.drawn()
    step = fits.step(method, fits.start())
    step.limit(rounding=1e-6)
    for count in range(8):
        advance(step, fits, first=count == 0)
    step.resume(rounding=2e-14)

    def outcome(rise: float) -> tuple[int, bool]:
        """Of sums whose loss is that of the accepted point, and a share of P more."""
        step.resume()  # Newton's method might ask for a Hessian
        theta, value = step.theta.clone(), float(step.numbers[0, 1])
        sums = fits.sums(step)
        penalty = 0.5 * float(fits.l2 @ next_point(step, fits, 0).square())
        sums[0, fits.X.shape[1] + LOSS] = ((1 + rise) * value - penalty) * len(fits.X)
        step.advance(sums)
        return int(step.numbers[0, 5]), torch.equal(step.theta, theta)

    assert outcome(1e-3) == (1, True)
    assert outcome(5e-7) == (0, False)
    assert outcome(5e-7) == (1, True)


def test_a_new_beginning_forgets_everything() -> None:
    fits = Fits.drawn()
    step, other = fits.step("newton", fits.start(1.0)), fits.step("newton", fits.start())
    advance(step, fits, first=True)
    advance(step, fits)
    step.begin(other.theta, {"hessian": fits.hessian(other.theta), "new": torch.tensor(True)})
    step.advance(fits.sums(step), first=True)
    advance(other, fits, first=True)
    torch.testing.assert_close(step.numbers[:, 3:], other.numbers[:, 3:])
    torch.testing.assert_close(step.weights(F64), other.weights(F64))
