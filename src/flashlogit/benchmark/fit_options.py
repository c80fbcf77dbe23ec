"""What `fit` may be asked for, checked before any work is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..system.errors import UserError
from .fit_problems import RECIPES
from .options import check_devices, check_picture, check_repeats, check_writable

_SMALLEST_GAP = 1e-13
_REPEATS, _QUICK_REPEATS = 5, 3
_LIMIT, _QUICK_LIMIT = 60.0, 1.0


@dataclass(frozen=True)
class FitOptions:
    """A run of `fit`.

    gap: relative, that contenders have to reach. limit: seconds that one setting of a contender may take before
    tighter ones are dropped. contenders: patterns of names; None for all.
    """

    problems: tuple[str, ...]
    devices: tuple[str, ...]
    quick: bool
    gap: float
    C: float
    repeats: int
    limit: float
    contenders: tuple[str, ...] | None
    out: Path | None
    picture: Path | None

    def to_json(self) -> dict[str, Any]:
        """What was measured, without the files' places."""
        return {
            "problems": list(self.problems),
            "devices": list(self.devices),
            "quick": self.quick,
            "gap": self.gap,
            "C": self.C,
            "repeats": self.repeats,
            "limit": self.limit,
            "contenders": None if self.contenders is None else list(self.contenders),
        }


def fit_options(
    *,
    problems: Sequence[str] | None,
    devices: Sequence[str] | None,
    quick: bool,
    gap: float,
    C: float,
    repeats: int | None,
    limit: float | None,
    contenders: Sequence[str] | None,
    out: Path | None,
    picture: Path | None,
) -> FitOptions:
    """Defaults filled in and everything checked, but for the contenders' names.

    Raises:
        UserError: a value that cannot be used, a device that is not there, or a file that cannot be written.
    """
    for name in problems or ():
        if name not in RECIPES:
            known = ", ".join(repr(known) for known in RECIPES)
            raise UserError(f"--problems is {name!r}; must be some of {known}")
    if not _SMALLEST_GAP <= gap < 1:
        raise UserError(
            f"--gap is {gap:g}; must be at least {_SMALLEST_GAP:g}, as float64 tells no smaller ones apart, and below 1"
        )
    if not (math.isfinite(C) and C > 0):
        raise UserError(f"--C is {C:g}; must be a number above 0: 1 is scikit-learn's default")
    check_repeats(repeats)
    if limit is not None and not (math.isfinite(limit) and limit > 0):
        raise UserError(f"--limit is {limit:g}; must be a number of seconds above 0: {_LIMIT:g} by default")
    for option, path in (("--out", out), ("--picture", picture)):
        check_writable(option, path)
    check_picture(out, picture)
    chosen = check_devices(devices)
    if not problems:
        problems = [name for name, recipe in RECIPES.items() if set(recipe.default_on) & set(chosen[:1])]
    return FitOptions(
        problems=tuple(dict.fromkeys(problems)),
        devices=chosen,
        quick=quick,
        gap=gap,
        C=C,
        repeats=repeats or (_QUICK_REPEATS if quick else _REPEATS),
        limit=limit or (_QUICK_LIMIT if quick else _LIMIT),
        contenders=tuple(contenders) if contenders else None,
        out=out,
        picture=picture,
    )
