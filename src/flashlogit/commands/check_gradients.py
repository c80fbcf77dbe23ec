"""Compute the gradient of the loss by hand, by autograd, by flashlogit's reference
and kernel and by finite differences, and compare.

It is that of one row, or with --config of your own training rows. Exit code 0
means that they agree, 1 that they do not.

examples:
  --x 6.7 --y 0
  --x=-3 --y 1 --eps 1e-3 --clamp-gradient exact
  --config configs/bce.yaml loss.eps=0
"""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from ..gradients.check import DataProblem, GradientCheck, Row, check, data_problem, example_problem, find_kernel
from ..gradients.methods import ChainRule, Problem
from ..system.console import Output, aligned
from ..system.errors import UserError
from .shell import add_shared

EXIT_DISAGREES = 1

_WIDTH = 100
_SHOWN_COLUMNS = 2
_EXAMPLE = {
    "x": (6.7, "the feature"),
    "y": (0.0, "the label, from 0 to 1"),
    "w": (1.0, "the weight"),
    "b": (0.0, "the intercept"),
    "eps": (1e-8, "p is clamped to [eps, 1 - eps]"),
}
"""The numbers of one row: what each is where none is given, and what it means."""
_FORMULA = """\
z = x w + b    p = sigmoid(z)    L = -(y log p + (1 - y) log(1 - p)), p clamped to [eps, 1 - eps]
dL/dw = dL/dp * dp/dz * dz/dw = (p - y) / (p (1 - p)) * p (1 - p) * x = (p - y) x"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    row = parser.add_argument_group("one row", "Write a negative number with an equals sign, as in --w=-1e-3.")
    for name, (value, meaning) in _EXAMPLE.items():
        row.add_argument(f"--{name}", type=float, help=f"{meaning} ({value:g})")
    row.add_argument(
        "--clamp-gradient",
        choices=("through", "exact"),
        help="gradient beyond the clamp: through, p - y as by hand (the default), or exact, 0",
    )
    add_shared(parser.add_argument_group("training rows"), "--config", "overrides")


def run(options: argparse.Namespace, output: Output) -> int:
    """Compare the gradient by all methods; returns 0 where they agree, 1 where not."""
    given = [name for name in (*_EXAMPLE, "clamp_gradient") if getattr(options, name) is not None]
    if options.config is not None:
        if given:
            name, wrong = given[0].replace("_", "-"), "is for one row, and --config for a file's rows"
            remedy = "leave one of them out (the file's clamp is set by loss.eps=... and loss.clamp_gradient=...)"
            raise UserError(wrong, setting=f"--{name}", remedy=remedy)
        data = data_problem(options.config, options.overrides)
        output.say(_data_heading(data))
        outcome = check(data.problem, data.kernel)
    else:
        if options.overrides:
            wrong, remedy = "it changes a config file", "name the file with --config"
            raise UserError(wrong, setting=options.overrides[0], remedy=remedy)
        numbers = {name: getattr(options, name) if name in given else value for name, (value, _) in _EXAMPLE.items()}
        problem = example_problem(**numbers, clamp_gradient=options.clamp_gradient or "through")
        output.say(_example_heading(problem))
        outcome = check(problem, find_kernel(problem.X.device))
    output.answer(table(outcome), _result(outcome))
    return 0 if outcome.agrees else EXIT_DISAGREES


def _result(outcome: GradientCheck) -> dict[str, Any]:
    """Return a check as JSON values."""
    methods: list[dict[str, Any]] = []
    for row in outcome.rows:
        methods.append({"method": row.method, "arithmetic": row.arithmetic})
        if row.gradient is None:
            methods[-1] |= {"agrees": row.agrees, "outcome": row.text}
        else:
            gradient = row.gradient
            methods[-1] |= {"loss": gradient.loss, "weight": gradient.weight.tolist(), "bias": gradient.bias}
            methods[-1] |= {"disagreement": row.disagreement, "bound": row.bound}
    return {"agrees": outcome.agrees, "methods": methods, "notes": list(outcome.notes)}


def _example_heading(problem: Problem) -> str:
    """Return the formula, the numbers, and the chain rule with these numbers."""
    x, y, w, b = problem.X.item(), problem.y.item(), problem.weight.item(), problem.bias
    clamp = problem.clamp
    numbers = f"x = {x:.16g}, y = {y:.16g}, w = {w:.16g}, b = {b:.16g}, eps = {clamp.eps:g}"
    parts = [
        f"The gradient of one row's loss\n{textwrap.indent(_FORMULA, '  ')}",
        _wrapped(f"{numbers}, clamp_gradient = {clamp.gradient}"),
        f"The chain rule by hand, in float64\n{textwrap.indent(_factors(problem), '  ')}\n",
    ]
    return "\n\n".join(parts)


def _factors(problem: Problem) -> str:
    z = (problem.X @ problem.weight + problem.bias).squeeze()
    chain = ChainRule.at(z, problem.y.squeeze(), problem.clamp)
    x, by_z = problem.X.item(), chain.loss_by_z.item()
    clamped = problem.clamp.zeroes_gradient and z.abs() > problem.clamp.bound
    lines = [
        ("p", "sigmoid(z)", chain.p.item()),
        ("dL/dp", "0 beyond the clamp" if clamped else "(p - y) / (p (1 - p))", chain.loss_by_p.item()),
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
    """Return which rows, which point, and which columns the table shows."""
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
    """Return the rows of a check, what there is to know about them, and the verdict as the last line."""
    columns = max(len(row.gradient.weight) for row in outcome.rows if row.gradient)
    names = ["dL/dw"] if columns == 1 else [f"dL/dw[{j}]" for j in range(min(columns, _SHOWN_COLUMNS))]
    heading = ["method", "arithmetic", "loss", *names, "dL/db", "off by", "allowed"]
    # A single row shows every digit of a float64, unless very large or small numbers leave no room for them.
    for digits in (16, 12, 8) if columns == 1 else (8, 6):
        body = aligned([heading, *(_cells(row, digits) for row in outcome.rows)], left=(0, 1))
        if max(map(len, body.splitlines())) <= _WIDTH:
            break
    return "\n".join([body, "", _wrapped(*_legend(outcome), *outcome.notes), "", _verdict(outcome)])


def _cells(row: Row, digits: int) -> list[str]:
    if row.gradient is None:
        return [row.method, row.arithmetic, row.text]
    off = ["(truth)", ""] if row.disagreement is None else [f"{row.disagreement:.1e}", f"{row.bound:.2g}"]
    shown = [*row.gradient.weight[:_SHOWN_COLUMNS].tolist(), row.gradient.bias]
    return [row.method, row.arithmetic, f"{row.gradient.loss:.6g}", *(f"{value:.{digits}g}" for value in shown), *off]


def _legend(outcome: GradientCheck) -> list[str]:
    """Return what autograd differentiates, and what the last columns mean."""
    legend = [
        "autograd: torch's derivative of -(y log p + (1 - y) log(1 - p)), with log p as logsigmoid(z).",
        "off by: the largest error in loss and gradient, relative to the size of the terms that are added up.",
    ]
    missing = {row.method for row in outcome.rows if row.gradient is None and row.agrees is None}
    legend += [f"The verdict is not about what did not run: {name}." for name in sorted(missing)]
    return legend


def _verdict(outcome: GradientCheck) -> str:
    worst = outcome.worst
    verdict = "agree" if outcome.agrees else "DISAGREE"
    return (
        f"largest disagreement: {worst.disagreement:.1e} of {worst.bound:.2g} allowed"
        f" ({worst.method}, {worst.arithmetic.partition(',')[0]}, {worst.worst}): {verdict}"
    )


def _wrapped(*paragraphs: str) -> str:
    """Return each paragraph in lines of at most `_WIDTH` characters; a newline at a paragraph's end stays."""
    return "\n".join(textwrap.fill(paragraph, _WIDTH) + "\n" * paragraph.endswith("\n") for paragraph in paragraphs)
