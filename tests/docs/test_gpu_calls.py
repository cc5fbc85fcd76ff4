"""The calls of dev/gpu, which run where no test does: what they name is there."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CALLS = sorted((ROOT / "dev" / "gpu").glob("*.sh"))
NAMED = re.compile(r"\b(?:scripts|configs)/[\w./-]+\.(?:py|yaml)\b")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_a_call(call):
    text = call.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", call], check=False).returncode == 0
    assert [name for name in NAMED.findall(text) if not (ROOT / name).is_file()] == []
    assert call.name in (call.parent / "README.md").read_text(encoding="utf-8") or call.name == "common.sh"
