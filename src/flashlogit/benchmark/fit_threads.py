"""Settings with one BLAS thread.

With several, BLAS threads and those of OpenMP wait for each other's cores: on two busy cores scikit-learn's L-BFGS took
five to fifteen times as long. A contender is to be compared at its best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from threadpoolctl import ThreadpoolController

from .fit_contender import Ladder, Rung, Solution

_NAME = "one BLAS thread"


def one_blas_thread(variant: str, rungs: Sequence[Rung]) -> Ladder:
    """The same settings, each run with a single BLAS thread."""
    # It knows the libraries that are loaded when it is made, as they are once a contender has run.
    controller = ThreadpoolController()
    limited = [replace(rung, run=_limited(rung.run, controller)) for rung in rungs]
    return Ladder(f"{variant}, {_NAME}" if variant else _NAME, limited)


def _limited(run: Callable[[], Solution], controller: ThreadpoolController) -> Callable[[], Solution]:
    def limited() -> Solution:
        with controller.limit(limits=1, user_api="blas"):
            return run()

    return limited
