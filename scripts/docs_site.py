"""The pages of the docs site that are no files of docs/; MkDocs calls this (`hooks` and `extensions` in mkdocs.yml).

README, CHANGELOG, CONTRIBUTING and the log are taken as they are, the notebook as text, each room of the package as its
docstrings, and a file of the repository that a page links to as a page that shows it.
"""

import json
import os
import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "dev/LOG.md": "dev/LOG.md",
    "docs/quickstart.ipynb": "quickstart.md",
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
DOCTEST = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
# What Markdown would take for markup in a docstring, or code, which stays as it is: fenced, in backquotes or indented.
MARKUP = re.compile(r"^```.*?^```$|`[^`]*`|^ {4}[^\n]*$|[\[*<]", re.MULTILINE | re.DOTALL)
ROOMS = sorted(path.parent.name for path in ROOT.glob("revinst/*/__init__.py"))
ALONE = sorted(path.stem for path in ROOT.glob("revinst/*.py") if not path.stem.startswith("_"))  # in no room


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    reference = [f"reference/{name}.md" for name in ("revinst", *ROOMS)]
    config.nav = [*(config.nav or []), {"Reference": reference}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what lies outside of docs/."""
    texts = {ROOT / name: read_page(ROOT / name) for name in PAGES}
    for path, text in texts.items():
        files.append(File.generated(config, place_of(path), content=text))
    for name in ROOMS:
        files.append(File.generated(config, f"reference/{name}.md", content=f"# {name}\n\n::: revinst.{name}\n"))
    alone = "\n".join(f"::: revinst.{name}\n" for name in ALONE)
    files.append(File.generated(config, "reference/revinst.md", content=f"# revinst\n\n{alone}"))
    texts |= {path: path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md")}
    for shown in sorted({target for path, text in texts.items() for target in list_targets(path, text)}):
        if (place := place_of(shown)).startswith("files/"):
            files.append(File.generated(config, place, content=show_file(shown)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links to files of the repository become links to their pages; those to folders become text."""
    place = page.file.src_uri
    if place.startswith(("files/", "dev/")):
        page.meta["search"] = {"boost": 0.2}  # after what is written to be read
    if place.startswith(("reference/", "files/")):
        return markdown
    source = next((ROOT / name for name, where in PAGES.items() if where == place), ROOT / "docs" / place)

    def relink(link: re.Match[str]) -> str:
        text, name, anchor = link.groups()
        target = (source.parent / name).resolve()
        if target.is_dir():
            return text
        if not target.is_file():
            return link[0]  # `--strict` refuses it
        return f"[{text}]({os.path.relpath(place_of(target), Path(place).parent)}{anchor or ''})"

    return "".join(part if part.startswith("```") else LINK.sub(relink, part) for part in FENCE.split(markdown))


def read_page(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    return "\n\n".join(
        text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for cell, text in zip(cells, texts, strict=True)
    )


def list_targets(page: Path, text: str) -> set[Path]:
    """The files that a page links to."""
    targets = {(page.parent / name).resolve() for _, name, _ in LINK.findall(FENCE.sub("", text))}
    return {target for target in targets if target.is_file()}


def place_of(path: Path) -> str:
    """Where the site has a file of the repository."""
    name = path.relative_to(ROOT).as_posix()
    if name in PAGES:
        return PAGES[name]
    if path.parent == ROOT / "docs":
        return path.name
    if name.startswith("revinst/") and path.suffix == ".py":
        module = name.removesuffix(".py").replace("/", ".")
        room = path.relative_to(ROOT).parts[1]
        return f"reference/{room if room in ROOMS else 'revinst'}.md#{module}"
    return f"files/{name}.md"


def show_file(path: Path) -> str:
    kind = {".py": "python", ".yaml": "yaml"}.get(path.suffix, "text")
    return f"# {path.relative_to(ROOT).as_posix()}\n\n````{kind}\n{path.read_text(encoding='utf-8')}````\n"


class PlainDocstrings(griffe.Extension):
    """Our docstrings are plain text with code in backquotes, indented formulas and doctests: nothing else is markup."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring:
            obj.docstring.value = render_docstring(obj.docstring.value)


def render_docstring(text: str) -> str:
    """As Markdown that shows what is written."""
    text = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", text)
    return MARKUP.sub(lambda found: found[0] if len(found[0]) > 1 else f"\\{found[0]}", text)
