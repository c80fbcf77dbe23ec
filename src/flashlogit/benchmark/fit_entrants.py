"""Who competes in `fit`: a family for each library, imported when it is asked for."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch

from .clock import failure_of
from .fit_contender import Absent, Entrant, FitData
from .fit_problems import FitProblem

FAMILIES = {
    "flashlogit": "fit_contenders_flashlogit",
    "scikit-learn": "fit_contenders_sklearn",
    "scikit-learn-intelex": "fit_contenders_sklearnex",
    "glum": "fit_contenders_glum",
    "cyanure": "fit_contenders_cyanure",
    "cuML": "fit_contenders_cuml",
    "torch": "fit_contenders_torch",
    "JAX": "fit_contenders_jax",
}
"""The module of each, with a function `contenders(data, device, gap)`."""

PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-learn-intelex",
    "glum",
    "cyanure",
    "cuml-cu12",
    "cuml-cu13",
    "jax",
    "jaxlib",
    "optax",
)
"""Whose versions a report holds, beside those of every report."""


def entrants(
    data: FitData, devices: Sequence[str], gap: float, patterns: Sequence[str] | None
) -> list[Entrant]:
    """Everybody on these devices whose name or family matches one of the patterns; all without patterns."""
    found: list[Entrant] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for family, module in FAMILIES.items():
            for device in devices:
                found += _family(family, module, data, device, gap)
    return [entrant for entrant in found if patterns is None or any(matches(entrant, p) for p in patterns)]


def matches(entrant: Entrant, pattern: str) -> bool:
    """Whether the pattern (with * and ?, in any case) is the name, the family, or the name and the device."""
    names = (entrant.name, entrant.family, f"{entrant.name} {entrant.device}")
    return any(fnmatchcase(name.lower(), pattern.lower()) for name in names)


def known_names(devices: Sequence[str], gap: float) -> list[Entrant]:
    """Everybody, for a problem that is too small to be solved."""
    nothing = FitProblem("nothing", torch.zeros((2, 1)), torch.tensor([0, 1], dtype=torch.uint8))
    return entrants(FitData(nothing, 1.0), devices, gap, None)


def _family(family: str, module: str, data: FitData, device: str, gap: float) -> list[Entrant]:
    try:
        found: list[Entrant] = importlib.import_module(f".{module}", __package__).contenders(
            data, device, gap
        )
    except ModuleNotFoundError as error:
        return [Absent(family, family, device, "not installed", f"no module named {error.name}")]
    except Exception as error:
        return [Absent(family, family, device, "failed", failure_of(error).reason)]
    return found
