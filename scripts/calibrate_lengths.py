"""How many words a text has in each language, against the same text in English: the weights of revinst/data/words.py.

    mkdir debs && cd debs && apt-get download manpages manpages-dev manpages-de manpages-de-dev ... \\
        libreoffice-help-en-us libreoffice-help-hi ... libreoffice-l10n-ar ... && cd ..
    python scripts/calibrate_lengths.py debs

reads translated manual and help pages by paragraphs, and messages of programs of four words or more. It prints for each
language paragraphs, words as `count_words` gives them for each English one, and by how many points the share of
paragraphs with at least (at most) so many words differs from the English one's, each with its 95 % interval over pages.
"""

import gettext
import gzip
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import numpy as np

from revinst.data.language import find_script
from revinst.data.words import count_words
from revinst.evaluation.statistics import bootstrap_intervals, number_groups

BREAK = re.compile(r"^\.(?:SH|SS|PP|P|LP|TP|IP|HP|TQ|RS|RE)\b")
SKIPPED = (re.compile(r"^\.(?:nf|EX|TS)\b"), re.compile(r"^\.(?:fi|EE|TE)\b"))
FONTS = re.compile(r"^\.(?:BR|RB|IR|RI|BI|IB|B|I|SM|SB)\b ?")
ESCAPES = re.compile(r"\\(?:f.|s[+-]?\d|[&%/,|^]|\(..|\[[^\]]*\]|.)")
PARAGRAPH = re.compile(r'<p id="(par_\w+)"[^>]*>(.*?)</p>', re.DOTALL)
MARKUP = re.compile(r"<[^>]+>|~|\$\(\w+\)|%\w+%?")
LIMITS = {"3 or more": (3, None), "5 or more": (5, None), "30 or fewer": (None, 30), "100 or fewer": (None, 100)}
MIN_PARAGRAPHS = 300
Page = dict[str, str]  # a paragraph's name -> its text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for package in sorted(Path(sys.argv[1]).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), folder], check=True)
        root = Path(folder)
        pages = {**read_manuals(root), **read_help(root), **read_messages(root)}
    print("| language | paragraphs | words for each English one |", " | ".join(LIMITS), "|")
    print("| --- | --- | --- |", " | ".join("---" for _ in LIMITS), "|")
    for language in sorted({language for language, _ in pages} - {"en"}):
        pairs = list(pair_up(pages, language))
        if len(pairs) >= MIN_PARAGRAPHS:
            print(describe(language, pairs))


def read_manuals(folder: Path) -> dict[tuple[str, str], Page]:
    pages = {}
    for path in (folder / "usr/share/man").rglob("*.gz"):
        parts = path.relative_to(folder / "usr/share/man").parts
        language = "en" if len(parts) == 2 else parts[0].split(".")[0].replace("zh_CN", "zh").replace("pt_BR", "pt")
        pages[language, path.name] = split_manual(gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace"))
    return pages


def split_manual(source: str) -> Page:
    """A paragraph's name is all that the page's paragraphs begin with up to it, so what comes after a difference counts
    no more: a translation may have other sections at its end.
    """
    paragraphs, beginnings, words, skipping = Page(), "", list[str](), False
    for line in source.splitlines():
        if SKIPPED[skipping].match(line):
            skipping = not skipping
        elif BREAK.match(line) or not line.strip():
            paragraphs[beginnings] = " ".join(words)
            words, beginnings = [], beginnings + line[:3].strip()
        elif not skipping and (not line.startswith((".", "'")) or FONTS.match(line)):
            words.append(ESCAPES.sub(lambda found: "-" if found[0] == "\\-" else "", FONTS.sub("", line)))
    return paragraphs | {beginnings: " ".join(words)}


def read_help(folder: Path) -> dict[tuple[str, str], Page]:
    pages = {}
    root = folder / "usr/share/libreoffice/help"
    for path in root.rglob("*.html"):
        language, *rest = path.relative_to(root).parts
        found = PARAGRAPH.findall(path.read_text(encoding="utf-8"))
        pages[language[:2], "/".join(rest)] = {
            name: " ".join(unescape(MARKUP.sub("", text)).split()) for name, text in found
        }
    return pages


def read_messages(folder: Path) -> dict[tuple[str, str], Page]:
    pages = {}
    for path in folder.rglob("LC_MESSAGES/*.mo"):
        with path.open("rb") as file:
            messages = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # its only list of messages
        for key, value in messages.items():
            if isinstance(key, str):
                english, own = (MARKUP.sub("", text.split("\x04")[-1]) for text in (key, value))
                if len(english.split()) > 3:
                    pages["en", f"{path.name}:{english}"] = {"": english}
                    pages[path.parent.parent.name, f"{path.name}:{english}"] = {"": own}
    return pages


def pair_up(pages: dict[tuple[str, str], Page], language: str) -> Iterator[tuple[str, str, str]]:
    """(page, English, translation) of paragraphs that are translated: in the page's script and other words."""
    for (own, page), paragraphs in pages.items():
        if own != language or ("en", page) not in pages:
            continue
        usual = find_script(" ".join(paragraphs.values()))
        for name, text in paragraphs.items():
            english = pages["en", page].get(name, "")
            if len(english.split()) > 1 and text != english and find_script(text) == usual != "":
                yield page, english, text


def describe(language: str, pairs: list[tuple[str, str, str]]) -> str:
    groups = number_groups([page for page, _, _ in pairs])
    english, own = (np.array([count_words(pair[side]) for pair in pairs], dtype=np.float64) for side in (1, 2))
    changes = [100 * (keep(own, *limits) - keep(english, *limits)) for limits in LIMITS.values()]
    cells = [
        f"{change.mean():+.1f} [{low:+.1f}, {high:+.1f}]"
        for change, (low, high) in zip(changes, bootstrap_intervals(np.stack(changes, axis=1), groups), strict=True)
    ]
    low, high = bootstrap_ratio(own, english, groups)
    return (
        f"| {language} | {len(pairs)} | {own.sum() / english.sum():.2f} [{low:.2f}, {high:.2f}] | {' | '.join(cells)} |"
    )


def keep(words: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
    at_least: Callable[..., np.ndarray] = np.greater_equal
    return (at_least(words, low) if low is not None else words <= high).astype(np.float64)


def bootstrap_ratio(own: np.ndarray, english: np.ndarray, groups: np.ndarray) -> list[float]:
    sums = np.zeros((2, groups.max() + 1))
    for row, words in zip(sums, (own, english), strict=True):
        np.add.at(row, groups, words)
    picks = np.random.default_rng(0).integers(sums.shape[1], size=(1000, sums.shape[1]))
    resampled = sums[:, picks].sum(2)
    return np.quantile(resampled[0] / resampled[1], [0.025, 0.975]).tolist()


if __name__ == "__main__":
    main()
