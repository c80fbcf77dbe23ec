"""The program scripts/check_gradients.py: its options, and a check's outcome as text."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..gradients.check import (
    DataProblem,
    GradientCheck,
    Row,
    check,
    data_problem,
    example_problem,
    find_kernel,
)
from ..gradients.differences import Remark
from ..gradients.methods import ChainRule, Problem
from ..system.console import Output, add_output
from ..system.errors import UserError
from .shell import program, run_guarded

EXIT_DISAGREES = 1

_WIDTH = 100
_SHOWN_COLUMNS = 2
_EXAMPLE: dict[str, float] = {"x": 6.7, "y": 0.0, "w": 1.0, "b": 0.0, "eps": 1e-8}
_DESCRIPTION = """\
Compute the gradient of the loss by hand, by autograd, by flashlogit's
reference and kernel and by finite differences, and compare: for one row, or
with --config for your own training rows. Exit code 0 means that they agree,
1 that they do not."""
_EXAMPLES = """\
--x 6.7 --y 0
--x=-3 --y 1 --eps 1e-3 --clamp-gradient exact
--config configs/bce.yaml loss.eps=0"""
_FORMULA = """\
z = x w + b    p = sigmoid(z)    L = -(y log p + (1 - y) log(1 - p)), p clamped to [eps, 1 - eps]
dL/dw = dL/dp * dp/dz * dz/dw = (p - y) / (p (1 - p)) * p (1 - p) * x = (p - y) x"""


def main(argv: Sequence[str] | None = None, *, prog: str = "check_gradients.py") -> int:
    """Compare the gradient by all methods; returns 0 where they agree, 1 where not, 2 for what the user can mend."""
    # Settings and options may stand in any order.
    options = _parser(prog).parse_intermixed_args(argv)
    return run_guarded(lambda: _run(options), debug=options.debug)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = program(prog, _DESCRIPTION, _EXAMPLES)
    row = parser.add_argument_group(
        "one row", "Write a negative number with an equals sign, as in --w=-1e-3."
    )
    row.add_argument("--x", type=float, help="the feature (6.7)")
    row.add_argument("--y", type=float, help="the label, from 0 to 1 (0)")
    row.add_argument("--w", type=float, help="the weight (1)")
    row.add_argument("--b", type=float, help="the intercept (0)")
    row.add_argument("--eps", type=float, help="p is clamped to [eps, 1 - eps] (1e-8)")
    row.add_argument(
        "--clamp-gradient",
        choices=("through", "exact"),
        help="gradient beyond the clamp: through, p - y as by hand (the default), or exact, 0",
    )
    data = parser.add_argument_group("training rows")
    data.add_argument("--config", type=Path, help="the YAML file, as for train.py")
    data.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings that replace the file's"
    )
    add_output(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    output = Output.of(options)
    given = [name for name in (*_EXAMPLE, "clamp_gradient") if getattr(options, name) is not None]
    if options.config is not None:
        if given:
            raise UserError(
                f"--{given[0].replace('_', '-')} is for one row, and --config for a file's rows; leave one of them"
                " out (the file's clamp is set by loss.eps=... and loss.clamp_gradient=...)"
            )
        data = data_problem(options.config, options.overrides)
        output.say(_data_heading(data))
        outcome = check(data.problem, data.kernel)
    else:
        if options.overrides:
            raise UserError(f"{options.overrides[0]} changes a config file; name the file with --config")
        numbers = _EXAMPLE | {name: getattr(options, name) for name in given if name in _EXAMPLE}
        problem = example_problem(**numbers, clamp_gradient=options.clamp_gradient or "through")
        output.say(_example_heading(problem))
        outcome = check(problem, find_kernel(problem.X.device))
    output.answer(table(outcome), _result(outcome))
    return 0 if outcome.agrees else EXIT_DISAGREES


def _result(outcome: GradientCheck) -> dict[str, Any]:
    """A check as JSON values."""
    methods = [
        {"method": row.method, "arithmetic": row.arithmetic, "agrees": row.agrees, "outcome": row.text}
        if isinstance(row, Remark)
        else {
            "method": row.method,
            "arithmetic": row.arithmetic,
            "loss": row.gradient.loss,
            "weight": row.gradient.weight.tolist(),
            "bias": row.gradient.bias,
            "disagreement": row.disagreement,
            "bound": row.bound,
        }
        for row in outcome.rows
    ]
    return {"agrees": outcome.agrees, "methods": methods, "notes": list(outcome.notes)}


def _example_heading(problem: Problem) -> str:
    """The formula, the numbers, and the chain rule with these numbers."""
    x, y, w, b = problem.X.item(), problem.y.item(), problem.weight.item(), problem.bias
    clamp = problem.clamp
    return "\n\n".join(
        [
            f"The gradient of one row's loss\n{textwrap.indent(_FORMULA, '  ')}",
            _wrapped(
                f"x = {x:.16g}, y = {y:.16g}, w = {w:.16g}, b = {b:.16g}, eps = {clamp.eps:g},"
                f" clamp_gradient = {clamp.gradient}"
            ),
            f"The chain rule by hand, in float64\n{textwrap.indent(_factors(problem), '  ')}\n",
        ]
    )


def _factors(problem: Problem) -> str:
    z = (problem.X @ problem.weight + problem.bias).squeeze()
    chain = ChainRule.at(z, problem.y.squeeze(), problem.clamp)
    x, by_z = problem.X.item(), chain.loss_by_z.item()
    by_p = "(p - y) / (p (1 - p))"
    if problem.clamp.zeroes_gradient and z.abs() > problem.clamp.bound:
        by_p = "0 beyond the clamp"
    lines = [
        ("p", "sigmoid(z)", chain.p.item()),
        ("dL/dp", by_p, chain.loss_by_p.item()),
        ("dp/dz", "p (1 - p)", chain.p_by_z.item()),
        ("dz/dw", "x", x),
        ("dz/db", "1", 1.0),
        ("dL/dw", "dL/dp * dp/dz * dz/dw", by_z * x),
        ("dL/db", "dL/dp * dp/dz * dz/db", by_z),
    ]
    text = "\n".join(f"{name:5} = {formula:21} = {value:.16g}" for name, formula, value in lines)
    if chain.cancelled:
        text += "\np (1 - p) is out of float64's range; it cancels on paper, which leaves dL/dw = (p - y) x"
    return text


def _data_heading(data: DataProblem) -> str:
    """Which rows, which point, and which columns the table shows."""
    problem = data.problem
    n, D = problem.X.shape
    rows = f"{n:,} training rows"
    if n < data.rows_in_all:
        rows = f"the first {n:,} of {data.rows_in_all:,} training rows"
    shown = ", ".join(f"dL/dw[{j}]: {name}" for j, name in enumerate(data.feature_names[:_SHOWN_COLUMNS]))
    clamp = problem.clamp
    dtype = str(problem.X.dtype).removeprefix("torch.")
    return _wrapped(
        f"The gradient of the mean loss (without penalty) over {rows}, {D:,} columns stored in {dtype}, at random"
        " weights that give logits of about 1",
        f"eps = {clamp.eps:g}, clamp_gradient = {clamp.gradient}; {shown}\n",
    )


def table(outcome: GradientCheck) -> str:
    """The rows of a check, what there is to know about them, and the verdict as the last line."""
    widest = max(len(row.gradient.weight) for row in outcome.rows if isinstance(row, Row))
    # A single row shows every digit of a float64, unless very large or small numbers leave no room for them.
    for digits in (16, 12, 8) if widest == 1 else (8, 6):
        body = _body(outcome, digits, widest)
        if max(map(len, body)) <= _WIDTH:
            break
    return "\n".join([*body, "", _wrapped(*_legend(outcome), *outcome.notes), "", _verdict(outcome)])


def _body(outcome: GradientCheck, digits: int, columns: int) -> list[str]:
    """Heading and rows, aligned."""
    shown = min(columns, _SHOWN_COLUMNS)
    names = ["dL/dw"] if columns == 1 else [f"dL/dw[{j}]" for j in range(shown)]
    heading = ["method", "arithmetic", "loss", *names, "dL/db", "off by", "allowed"]
    cells = [heading, *(_cells(row, shown, digits) for row in outcome.rows)]
    # The text of a remark runs on over the columns of numbers.
    numbers = [[*line[:2], *(line[2:] if len(line) > 3 else [""] * (len(heading) - 2))] for line in cells]
    widths = [max(map(len, column)) for column in zip(*numbers, strict=True)]
    return [_line(line, widths) for line in cells]


def _cells(row: Row | Remark, shown: int, digits: int) -> list[str]:
    if isinstance(row, Remark):
        return [row.method, row.arithmetic, row.text]
    off = ["(truth)", ""] if row.disagreement is None else [f"{row.disagreement:.1e}", f"{row.bound:.2g}"]
    gradient = row.gradient
    weights = [f"{value:.{digits}g}" for value in gradient.weight[:shown].tolist()]
    return [
        row.method,
        row.arithmetic,
        f"{gradient.loss:.6g}",
        *weights,
        f"{gradient.bias:.{digits}g}",
        *off,
    ]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names flush left, numbers flush right; a last cell that stands for several runs on over them."""
    names = [cell.ljust(width) for cell, width in zip(cells[:2], widths, strict=False)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=False)]
    return "  ".join([*names, *numbers]).rstrip()


def _legend(outcome: GradientCheck) -> list[str]:
    """What autograd differentiates, and what the last columns mean."""
    legend = [
        "autograd: torch's derivative of -(y log p + (1 - y) log(1 - p)), with log p as logsigmoid(z).",
        "off by: the largest error in loss and gradient, relative to the size of the terms that are added up.",
    ]
    missing = {row.method for row in outcome.rows if isinstance(row, Remark) and row.agrees is None}
    legend += [f"The verdict is not about what did not run: {name}." for name in sorted(missing)]
    return legend


def _verdict(outcome: GradientCheck) -> str:
    refused = next((row for row in outcome.rows if isinstance(row, Remark) and row.agrees is False), None)
    worst = outcome.worst
    if refused and (worst.disagreement or 0) <= worst.bound:
        return f"{refused.method} {refused.text}: DISAGREE"
    arithmetic = worst.arithmetic.partition(",")[0]
    return (
        f"largest disagreement: {worst.disagreement:.1e} of {worst.bound:.2g} allowed"
        f" ({worst.method}, {arithmetic}, {worst.worst}): {'agree' if outcome.agrees else 'DISAGREE'}"
    )


def _wrapped(*paragraphs: str) -> str:
    """Each paragraph in lines of at most `_WIDTH` characters; a newline at a paragraph's end stays."""
    return "\n".join(
        textwrap.fill(paragraph, _WIDTH) + "\n" * paragraph.endswith("\n") for paragraph in paragraphs
    )
