"""The rooms of the package: their order, which every import keeps, and their size."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/flashlogit"
ROOMS = (
    "commands",
    "gradients",
    "runs",
    "report",
    "estimator",
    "fitting",
    "training",
    "nn",
    "solvers.unpenalised",
    "solvers",
    "objectives",
    "models",
    "metrics",
    "data",
    "data.columns",
    "data.files",
    "passes",
    "reference",
    "config",
    "system",
)
"""From the top. A module imports from its own room and from those below."""
WITHOUT_DATA = {"solvers", "solvers.unpenalised", "objectives", "passes", "reference", "nn"}
"""Rooms that know neither files nor settings."""
FLAT = {"__init__", "__main__"}


def modules() -> Iterator[tuple[str, Path]]:
    """The dotted name below flashlogit and the file of each module of a room."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in FLAT:
            yield ".".join(parts), path


NAMES = {name.removesuffix(".__init__") for name, _ in modules()}


def room(module: str) -> str:
    """The room of a module, the most particular one that its name begins with."""
    return max((each for each in ROOMS if f"{module}.".startswith(f"{each}.")), key=len, default=module)


def imports(name: str, path: Path) -> Iterator[str]:
    """The modules below flashlogit that a module imports: at its top, within functions, for type checking only."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["flashlogit", *package][: len(package) + 2 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target.startswith("flashlogit."):
                below = target.removeprefix("flashlogit.")
                yield below if below in NAMES else below.rpartition(".")[0]


ARROWS = sorted({(name, target) for name, path in modules() for target in imports(name, path) if target})


def test_every_module_has_a_room() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == {
        "__init__.py",
        "__main__.py",
        "py.typed",
    }
    assert {room(name) for name, _ in modules()} == set(ROOMS)
    tested = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert {each.partition(".")[0] for each in ROOMS} - tested == {"reference"}  # whose tests are those of the kernels


def test_no_arrow_goes_up() -> None:
    """A relative import of the package itself (`from .. import __version__`) has no target and is free."""
    up = [f"{a} -> {b}" for a, b in ARROWS if ROOMS.index(room(a)) > ROOMS.index(room(b))]
    assert len(ARROWS) > 200  # the reading of imports finds them
    assert not up


def test_no_arrow_goes_round() -> None:
    """Modules of one room may import each other, but not in a circle."""
    below: dict[str, set[str]] = {}
    for a, b in ARROWS:
        below.setdefault(a.removesuffix(".__init__"), set()).add(b)
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way, module])
        if module not in done:
            for target in below.get(module, ()):
                visit(target, (*way, module))
            done.add(module)

    for module in list(below):
        visit(module, ())


def test_the_core_knows_neither_data_nor_settings() -> None:
    wrong = [(a, b) for a, b in ARROWS if room(a) in WITHOUT_DATA and room(b).split(".")[0] in {"data", "config"}]
    assert not wrong


@pytest.mark.parametrize("root", ["src", "kernels"])
def test_no_folder_is_too_full(root: str) -> None:
    sizes = Counter(path.parent for path in (ROOT / root).rglob("*.py") if path.name != "__init__.py")
    assert max(sizes.values()) <= 15, sizes
