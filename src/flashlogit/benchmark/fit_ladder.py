"""Climb every contender's ladders once, then time in turn the settings that may be its best.

A climb is expensive and says which settings reach the gap; times that are compared come from the turns that follow.
"""

from __future__ import annotations

import gc
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from .clock import failure_of
from .fit_contender import Contender, Ladder, Rung, Solution
from .fit_threads import one_blas_thread
from .fit_truth import Truth

_FLOOR_SHARE, _FLOOR = 1e-4, 1e-14
"""A ladder ends where the relative gap is this share of what is asked for, or what float64 can tell."""
_SAME_IN_A_ROW = 6
"""Settings with the same objective after which the tolerance is taken to have no effect. Fewer would give up on methods
that converge so fast that one iteration serves several tolerances."""
_HOPELESS = 5.0
"""Times the contender's quickest setting that reaches the gap: a ladder that takes longer is left."""
_MUCH_FASTER = 0.7
"""Of the time with all BLAS threads: with less, a whole ladder is climbed with one."""
_LIKELY = 1.5
"""A setting is timed in turn if its first time is within this of the contender's quickest that reaches the gap."""
_MOST_TIMED = 4
_SETTLING_MS = 300.0
"""Before calls that take less than three times as long, others of the same setting are run for so long: threads of an
OpenMP that has just been used go on looking for work for 200 ms, on cores that somebody else needs."""
_SHORT_MS = 50.0
"""Calls below it are timed as often as fits into that time."""
_MOST_IN_A_TURN = 5
_CLIMB_MS = 300.0
"""Settings that take less than a third of it are run three times in the climb."""


@dataclass(eq=False)
class Attempt:
    """A setting that was run, its objective in float64 (the worst of its runs), and its times in milliseconds."""

    variant: str
    rung: Rung
    solution: Solution
    objective: float
    climb_ms: list[float]
    turns_ms: list[float] = field(default_factory=list)

    @property
    def ms(self) -> list[float]:
        """The times to go by: those in turn, where there are any."""
        return self.turns_ms or self.climb_ms

    @property
    def median(self) -> float:
        ordered = sorted(self.ms)
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@dataclass(eq=False)
class Climb:
    """What came of a contender; `cut` says which ladders were left because a setting took too long."""

    contender: Contender
    attempts: list[Attempt] = field(default_factory=list)
    warm_up_ms: float | None = None
    cut: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """gap: relative, asked for. repeats: timed runs of a setting. limit: seconds that a setting may take.

    thorough: whether ladders go on beyond the gap, for the picture.
    """

    gap: float
    repeats: int
    limit: float
    thorough: bool = True


class Race:
    """All contenders for one problem.

    Args:
        truth: what solutions are judged by; best: the smallest objective known, which climbs lower.
        now: gives seconds.
    """

    def __init__(
        self, truth: Truth, rules: Rules, best: float, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._truth, self._rules, self._now = truth, rules, now
        self.best, self.best_from = best, "" if math.isinf(best) else "reference"
        self.climbs: list[Climb] = []

    def gap(self, objective: float) -> float:
        """(P - P_best) / P_null; infinite where P is not finite."""
        return (objective - self.best) / self._truth.null if math.isfinite(objective) else math.inf

    def climb(self, contender: Contender) -> Climb:
        """Run the settings of a contender from loose to tight."""
        climb = Climb(contender)
        self.climbs.append(climb)
        for given in contender.ladders:
            ladder = given
            try:
                warm_up = self._timed(ladder.rungs[0], contender.device)[0]
                if climb.warm_up_ms is None:
                    climb.warm_up_ms = warm_up
                if contender.blas:
                    ladder = self._with_best_threads(ladder, contender.device)
                self._climb_ladder(climb, ladder)
            except Exception as error:
                variant = f"{ladder.variant}: " if ladder.variant else ""
                climb.failures.append(f"{variant}{failure_of(error).reason}")
        if contender.blas:
            self._try_other_threads(climb)
        return climb

    def take_turns(self) -> None:
        """Time every contender's likely settings, A B C, A B C, ..."""
        timed = [
            (climb, attempt, self._repeats(attempt))
            for climb in self.climbs
            for attempt in self._likely(climb)
        ]
        collecting = gc.isenabled()
        gc.disable()
        try:
            for turn in range(self._rules.repeats):
                for climb, attempt, repeats in timed:
                    if turn < repeats:
                        self._turn(climb, attempt)
                gc.collect()
        finally:
            if collecting:
                gc.enable()

    def chosen(self, climb: Climb) -> Attempt | None:
        """The headline where there is one, else the quickest setting that reaches the gap, else the closest."""
        attempts = [a for a in climb.attempts if math.isfinite(a.objective)]
        if any(rung.headline for ladder in climb.contender.ladders for rung in ladder.rungs):
            return next((a for a in attempts if a.rung.headline), None)
        reaching = [a for a in attempts if self.reaches(a)]
        # A first time may be a lucky one: what was timed in turn comes first.
        reaching = [a for a in reaching if a.turns_ms] or reaching
        if reaching:
            return min(reaching, key=lambda a: a.median)
        return min(attempts, key=lambda a: (a.objective, a.median)) if attempts else None

    def reaches(self, attempt: Attempt) -> bool:
        return self.gap(attempt.objective) <= self._rules.gap

    def _climb_ladder(self, climb: Climb, ladder: Ladder) -> None:
        quickest = self._quickest(climb)
        found: list[Attempt] = []
        ended = False
        for i, rung in enumerate(ladder.rungs):
            # A headline is run in any case: it may be the tightest.
            if ended and not rung.headline:
                continue
            attempt = self._attempt(climb, ladder.variant, rung)
            found.append(attempt)
            if attempt.climb_ms[0] > self._rules.limit * 1e3 and i + 1 < len(ladder.rungs):
                climb.cut.append(ladder.variant)
                ended = True
            ended = ended or attempt.median > _HOPELESS * quickest or self._exhausted(found)

    def _exhausted(self, attempts: Sequence[Attempt]) -> bool:
        """Whether a ladder got as far as asked for, or its tolerance has no effect any more."""
        floor = max(_FLOOR, _FLOOR_SHARE * self._rules.gap) if self._rules.thorough else self._rules.gap
        last = [attempt.objective for attempt in attempts[-_SAME_IN_A_ROW:]]
        return self.gap(last[-1]) <= floor or (len(last) == _SAME_IN_A_ROW and len(set(last)) == 1)

    def _attempt(self, climb: Climb, variant: str, rung: Rung) -> Attempt:
        """Run a setting for the first time."""
        ms, solution = self._timed(rung, climb.contender.device)
        times = [ms]
        while len(times) < 3 and sum(times) * (1 + 1 / len(times)) < _CLIMB_MS:
            times.append(self._timed(rung, climb.contender.device)[0])
        attempt = Attempt(variant, rung, solution, self._judged(solution, climb), times)
        climb.attempts.append(attempt)
        return attempt

    def _quickest(self, climb: Climb) -> float:
        """Milliseconds of the contender's quickest setting so far that reaches the gap."""
        return min((a.median for a in climb.attempts if self.reaches(a)), default=math.inf)

    def _with_best_threads(self, ladder: Ladder, device: str) -> Ladder:
        """The ladder with one BLAS thread where that makes its first setting, which has run already, much faster."""
        single = one_blas_thread(ladder.variant, ladder.rungs)
        many, one = (self._timed(tried.rungs[0], device)[0] for tried in (ladder, single))
        return single if one < _MUCH_FASTER * many else ladder

    def _try_other_threads(self, climb: Climb) -> None:
        """Run what is likely to be timed in turn with one BLAS thread too."""
        names = {ladder.variant for ladder in climb.contender.ladders}
        for attempt in self._likely(climb):
            if attempt.variant in names:
                single = one_blas_thread(attempt.variant, [attempt.rung])
                self._attempt(climb, single.variant, single.rungs[0])

    def _likely(self, climb: Climb) -> list[Attempt]:
        reaching = sorted((a for a in climb.attempts if self.reaches(a)), key=lambda a: a.median)
        found = [a for a in reaching if a.median <= _LIKELY * reaching[0].median][:_MOST_TIMED]
        headlines = [a for a in climb.attempts if a.rung.headline and a not in found]
        if not found and not headlines:
            closest = self.chosen(climb)
            return [closest] if closest else []
        return [*found, *headlines]

    def _repeats(self, attempt: Attempt) -> int:
        """As often as asked for, but for no longer than the limit; not at all where one run took longer than that."""
        return min(self._rules.repeats, int(self._rules.limit * 1e3 / max(attempt.median, 1e-6)))

    def _turn(self, climb: Climb, attempt: Attempt) -> None:
        device = climb.contender.device
        times: list[float] = []
        try:
            if attempt.median < 3 * _SETTLING_MS:
                self._settle(attempt.rung, device)
            while not times or (sum(times) + times[-1] < _SHORT_MS and len(times) < _MOST_IN_A_TURN):
                ms, attempt.solution = self._timed(attempt.rung, device)
                times.append(ms)
        except Exception as error:
            climb.failures.append(f"{attempt.rung.setting}: {failure_of(error).reason}")
            return
        attempt.turns_ms += times
        objective = self._judged(attempt.solution, climb)
        attempt.objective = max(attempt.objective, objective) if math.isfinite(objective) else math.nan

    def _settle(self, rung: Rung, device: str) -> None:
        """Run it until the threads of whoever came before have gone to sleep."""
        spent = 0.0
        while spent < _SETTLING_MS:
            spent += max(self._timed(rung, device)[0], 1e-3 * _SETTLING_MS)

    def _judged(self, solution: Solution, climb: Climb) -> float:
        """P of a solution, which may be the best so far."""
        objective = self._truth.objective(solution.weight, solution.bias)
        if objective < self.best:
            self.best, self.best_from = objective, climb.contender.name
        return objective

    def _timed(self, rung: Rung, device: str) -> tuple[float, Solution]:
        """Milliseconds, and the solution. It lies on the host, so that the device is done."""
        with warnings.catch_warnings():
            # That a solver did not converge is what the gap says.
            warnings.simplefilter("ignore")
            if device == "cuda":
                torch.cuda.synchronize()
            start = self._now()
            solution = rung.run()
            return (self._now() - start) * 1e3, solution


def race(
    contenders: Sequence[Contender],
    truth: Truth,
    rules: Rules,
    best: float,
    note: Callable[[str], object],
    now: Callable[[], float] = time.perf_counter,
) -> Race:
    """Climb with each contender, then time them in turn."""
    found = Race(truth, rules, best, now)
    for contender in contenders:
        climb = found.climb(contender)
        note(_said(found, climb))
    found.take_turns()
    return found


def _said(found: Race, climb: Climb) -> str:
    """A line of progress."""
    who = f"  {climb.contender.name} ({climb.contender.device}): {len(climb.attempts)} settings"
    attempt = found.chosen(climb)
    if attempt is None:
        return f"{who}; {'; '.join(climb.failures)}"
    return f"{who}; {attempt.rung.setting}: {attempt.median:.4g} ms, gap {found.gap(attempt.objective):.1e}"
