"""The sources as trees: which module imports which, and when."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "irnscale": ROOT / "irnscale",
    "irnscale.kernels": ROOT / "kernels",
    "irnscale.train": ROOT / "train",
    "irnscale.checkpoints": ROOT / "checkpoints",
}
"""Where `setup.py` says that a package is."""


@dataclass(frozen=True)
class Import:
    """One import of `target` by `module`. when: "start", as the module is loaded, "call", in a function, or "types".

    within: the innermost function that it is in, "" for none.
    """

    module: str
    target: str
    when: str
    within: str = ""


def sources() -> dict[str, Path]:
    """Every module of the package, by the name under which it is imported."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imports_of(module: str, source: str, known: Mapping[str, object]) -> Iterator[Import]:
    """Its imports, wherever they are. `from a import b` is of a.b where that is a `known` module, else of a.

    Raises ValueError for a relative import.
    """

    def visit(node: ast.AST, when: str, within: str) -> Iterator[Import]:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                for child in node.body:
                    yield from visit(child, "types", within)
                for child in node.orelse:
                    yield from visit(child, when, within)
                return
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                when, within = ("types" if when == "types" else "call"), node.name
            case ast.Import():
                for name in node.names:
                    yield Import(module, name.name, when, within)
            case ast.ImportFrom():
                if node.level:
                    raise ValueError(f"{module}, line {node.lineno}: a relative import")
                for name in node.names:
                    full = f"{node.module}.{name.name}"
                    yield Import(module, full if full in known else str(node.module), when, within)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, when, within)

    yield from visit(ast.parse(source), "start", "")


def all_imports() -> list[Import]:
    """Those of every module of the package."""
    known = sources()
    return [found for name, path in known.items() for found in imports_of(name, path.read_text(), known)]


def circles(arrows: Mapping[str, set[str]]) -> list[set[str]]:
    """The sets of modules that reach each other, of two or more; `arrows`: from each to those that it imports."""
    reach = {start: _reached(start, arrows) for start in arrows}
    found: list[set[str]] = []
    for start, ends in reach.items():
        circle = {end for end in ends if start in reach.get(end, ())}
        if len(circle) > 1 and circle not in found:
            found.append(circle)
    return found


def _reached(start: str, arrows: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    ahead = list(arrows[start])
    while ahead:
        end = ahead.pop()
        if end not in reached:
            reached.add(end)
            ahead += arrows.get(end, ())
    return reached
