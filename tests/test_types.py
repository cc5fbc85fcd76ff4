"""`Any` is counted, so that it can only become rarer: where parts couple their types are named."""

import ast
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "revinst"
MOST = 187


def annotations(tree: ast.AST) -> list[ast.expr]:
    """Of arguments, results, variables and fields, and what `cast` casts to."""
    found: list[ast.expr | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node.returns)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cast":
            found.append(node.args[0])
    return [annotation for annotation in found if annotation is not None]


def count_any(source: str) -> int:
    """Also in annotations that are strings.

    >>> count_any('def f(a: "dict[str, Any]", b: int = 0) -> Any: ...')
    2
    """
    return sum(map(count_names, annotations(ast.parse(source))))


def count_names(annotation: ast.AST) -> int:
    nodes = list(ast.walk(annotation))
    strings = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    names = sum(isinstance(node, ast.Name) and node.id == "Any" for node in nodes)
    return names + sum(count_names(ast.parse(string)) for string in strings)


def test_any_only_becomes_rarer():
    rooms: Counter[str] = Counter()
    for path in sorted(PACKAGE.rglob("*.py")):
        rooms[path.relative_to(PACKAGE).parts[0]] += count_any(path.read_text(encoding="utf-8"))
    assert sum(rooms.values()) <= MOST, f"{sum(rooms.values())} uses of Any: {dict(rooms.most_common())}"


def test_every_kind_of_annotation_is_counted():
    source = """
from typing import Any, cast
x: dict[str, Any] = {}
y = cast("list[Any]", x)
async def f(a: Any, *b: "Any", c: int = 0, **d: Any) -> tuple[Any, Any]:
    z: Any = cast(Any, a)
Any
"""
    assert count_any(source) == 9
