"""What CONTRIBUTING.md names exists, and the site of the docs fetches nothing from elsewhere."""

import json
import re
import subprocess
import sys

import pytest

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def test_what_contributing_names_exists(root):
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    code = re.findall(r"`([^`\n]+)`", text) + FENCE.findall(text)
    targets = {each for line in code for words in re.findall(r"\bmake ([a-z][a-z -]*)", line) for each in words.split()}
    assert {"setup", "lint", "type", "test", "test-wide", "test-emulated", "test-survive", "docs", "bench"} <= targets
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    files = {name for line in code for name in re.findall(r"\b(?:revinst|tests|scripts|docs)/[\w./-]*", line)}
    assert len(files) > 20 and {name for name in files if not (root / name).exists()} == set()
    names = {line for line in code if re.fullmatch(r"[A-Z_]{4,}|[a-z]+(_[a-z]+)+", line)}
    source = "\n".join(path.read_text(encoding="utf-8") for path in (root / "revinst").rglob("*.py"))
    assert len(names) > 4 and {n for n in names if not re.search(rf"^((def|class) )?{n}\b", source, re.M)} == set()


@pytest.mark.wide
def test_the_site(root, tmp_path):
    """Built strictly, which refuses broken links; it fetches nothing from elsewhere when it is read."""
    pytest.importorskip("mkdocstrings", reason="pip install 'revinst[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path / "site"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path.relative_to(tmp_path / "site").as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert {page.stem for page in root.glob("docs/*.md")} <= {name.removesuffix(".html") for name in pages}
    rooms = {path.parent.name for path in root.glob("revinst/*/__init__.py")}
    assert {f"reference/{name}.html" for name in (*rooms, "revinst")} <= pages.keys()
    assert 'id="revinst.training.loss.summed_loss"' in pages["reference/training.html"]
    fetched = r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+rel=\"(?:stylesheet|preconnect)\"[^>]+//"
    assert {name for name, page in pages.items() if re.search(fetched, page)} == set()
    found = json.loads((tmp_path / "site" / "search" / "search_index.json").read_text())["docs"]
    assert len(found) > 1000 and any("summed_loss" in each["title"] for each in found)
