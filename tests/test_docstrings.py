"""Every public function, method and class says what goes in and what comes out."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from source_tree import sources

FEWEST = 5
"""Words of a docstring that says anything; "See `X`." says where it is said."""


def definitions(
    tree: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """The public ones of a module and of its public classes, by their names; without overloads."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if not node.name.startswith("_"):
                if not any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list):
                    yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    yield from definitions(node, f"{prefix}{node.name}.")
            case ast.If() | ast.Try():
                yield from definitions(node, prefix)


def too_short(source: str) -> list[str]:
    """The names whose docstrings are missing or say nothing."""
    found = []
    for name, node in definitions(ast.parse(source)):
        said = ast.get_docstring(node) or ""
        if len(said.split()) < FEWEST and not said.startswith("See `"):
            found.append(name)
    return found


def test_docstrings_say_something():
    modules = sources()
    assert len(modules) > 200
    assert {name: found for name, path in modules.items() if (found := too_short(path.read_text()))} == {}


def test_docstrings_that_say_nothing_are_seen():
    source = '''
class Plan:
    """How an image of any size is run."""
    def tiles(self): return 1
    def to_dict(self):
        """For JSON."""
    def run(self):
        """See `Backend`."""
    def _hidden(self): ...
    class Inner: ...
def outer():
    """One line for people who watch."""
    def inner(): ...
if True:
    def late(): ...
'''
    assert too_short(source) == ["Plan.tiles", "Plan.to_dict", "Plan.Inner", "late"]


def test_every_module_says_what_it_is():
    for name, path in sources().items():
        if path.read_text().strip():
            assert ast.get_docstring(ast.parse(path.read_text())), name
