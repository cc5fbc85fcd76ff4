"""What a stranger may rely on: commands only wire, packed rows run in one place, no file is a drawer."""

import ast
import re
from pathlib import Path

from revinst.cli import COMMANDS

PACKAGE = Path(__file__).resolve().parents[1] / "revinst"
FILES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def test_a_command_is_one_short_file():
    lengths = {name: len(text.splitlines()) for name, text in FILES.items() if name.startswith("commands/")}
    assert lengths.keys() == {
        f"commands/{name}.py" for name in (*COMMANDS, "decoding", "judging", "options", "reading", "__init__")
    }
    assert max(lengths.values()) <= 100, lengths
    assert sum(lengths.values()) <= 75 * len(lengths)


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


def test_the_doc_names_every_room_and_only_what_exists():
    text = (PACKAGE.parent / "docs" / "structure.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    first_column = re.findall(r"^\| ((?:`\w+/`(?:, )?)+) \|", text, re.MULTILINE)
    assert {name for cell in first_column for name in re.findall(r"`(\w+)/`", cell)} == rooms
    files = set(re.findall(r"`((?:\w+/)*\w+\.py)`", text)) - {"commands/NAME.py"}
    assert len(files) > 20
    assert {file for file in files if not any(name == file or name.endswith(f"/{file}") for name in FILES)} == set()
    everything = "\n".join(FILES.values())
    names = set(re.findall(r"`([A-Z_]{4,}|[a-z]+_[a-z_]+)`", text)) - {"seq_len"}
    assert {
        name for name in names if not re.search(rf"^((def|class) )?{name}\b|^    def {name}\b", everything, re.M)
    } == {"NAME"} & names
