"""What a stranger may rely on: commands only wire, packed rows run in one place, no file is a drawer."""

import ast
from pathlib import Path

from revinst.cli import COMMANDS

PACKAGE = Path(__file__).resolve().parents[1] / "revinst"
FILES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def test_a_command_is_one_short_file():
    lengths = {name: len(text.splitlines()) for name, text in FILES.items() if name.startswith("commands/")}
    assert lengths.keys() == {f"commands/{name}.py" for name in (*COMMANDS, "options", "__init__")}
    assert max(lengths.values()) <= 100, lengths
    assert sum(lengths.values()) <= 1000


def calls(text: str) -> set[str]:
    """Names of what is called with `cu_seqlens`, as `self.decoder`."""
    found = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return {ast.unparse(call.func) for call in found if any(keyword.arg == "cu_seqlens" for keyword in call.keywords)}


def test_packed_rows_go_through_the_network_in_one_place():
    """A new way through decoder and head would compute another loss than the one that training believes."""
    by_file = {name: found for name, text in FILES.items() if (found := calls(text))}
    assert by_file.pop("model/network.py") == {"self.decoder"}
    assert by_file.pop("model/fused/layer.py") == {"self.plain"}  # a fused layer hands on to the one it stands in for
    assert by_file.pop("data/batch.py") == {"MicroBatch"}
    assert by_file == {}


def test_no_file_is_a_drawer():
    stems = {Path(name).stem for name in FILES}
    assert not stems & {"utils", "util", "helpers", "helper", "common", "misc", "base_classes"}
