# ruff: noqa: E501, RUF001  (patterns)
"""Lines that introduce a quote, as `On Monday Ann wrote:`, in any language."""

import re
from itertools import islice

from revinst.corpus.blocks import DASHES_AROUND, DATE, MAX_LINE, is_quoted

# (how it begins, how the end of it reads): "On Mon, 2 Mar 2026 at 10:00, Ann <ann@example.org> wrote:"
ATTRIBUTIONS = (
    (r"On\b", r"wrote"),
    (r"Am\b", r"schrieb\b.*"),
    (r"Le\b", r"a [ée]crit"),
    (r"El\b", r"escribi[óo]"),
    (r"Il\b", r"ha scritto"),
    (r"(?:Em|No dia|A)\b", r"escreveu"),
    (r"Op\b", r"(?:schreef|heeft)\b.*"),
    (r"(?:Den|On)\b", r"skrev\b.*"),
    (r"(?:W dniu|Dnia|dnia)\b", r"(?:napisał|pisze)\S*.*"),
    (r"\S", r"(?:napisał|napísal|napisa[ol])\S*(?: je)?"),
    (r"\S", r"je napisa\w+"),
    (r"\S", r"έγραψε"),
    (r"\S", r"đã viết"),
    (r"\S", r"(?:va escriure|ha escrit)"),
    (r"\S", r"(?:כתב\S*|كتب\S*)"),
    (r"Dne\b", r"napsal\S*.*"),
    (r"\S", r"kirjoitti\b.*"),
    (r"\S", r"(?:пишет|написала?|писал\S*|пише|написав)"),
    (r"\S", r"a scris"),
    (r"\S", r"yazd\w"),
    (r"\S", r"ezt írta.*"),
    (r"\S", r"님이 작성"),
    (r"\S", r"(?:写道|寫道|のメール|さんは書きました|が作成)"),
    (r"\S", r"(?:wrote on|schrieb am|schreef op|skrev|писал\S*|kirjoitti|a scris) [\d.:/, -]{8,30}"),
    (r"\d[\d.:/, -]{8,30}", r"(?:wrote|schrieb|schreef|skrev) .{1,80}"),
    (
        r"[^<>\n]{0,80}<[^<>\s@]+@[^<>\s]+>",
        r"(?:wrote|schrieb|a écrit|escribió|ha scritto|escreveu|schreef|skrev)\b.*",
    ),
    (r".{0,80}?(?:\d{4}|\d:\d\d)", r"<[^<>\s@]+@[^<>\s]+>"),  # Gmail: "2026-03-02 10:00 GMT+01:00 Ann <ann@...>:"
)

ATTRIBUTION = re.compile(r"\A(?:" + "|".join(rf"{start}.{{0,400}}?{end}\s?[:：]$" for start, end in ATTRIBUTIONS) + ")")

GMAIL_WITHOUT_ADDRESS = re.compile(r"\A\d{4}-\d\d-\d\d \d\d?:\d\d GMT[+-]\d\d:\d\d \S[^:<>]{0,60}$")

WITHOUT_COLON = re.compile(r"\A.{0,400}[^\s<>@]@[^\s<>@]{1,200}>? [^\W\d_]{2,20}(?: [^\W\d_]{2,20})?$")

WHEN_OR_WHO = re.compile(r"@|\b\d{4}\b|\d[:.h]\d\d")

# Without a date these introduce what is quoted right below them, and nothing else.
BARE_ATTRIBUTION = re.compile(
    r"\A(?:(?:Zitat von|Quoting|Citando|Citat från)\b.{0,200}[:：]$|.{0,200}\b(?:wrote|writes|schrieb|a écrit|escribió|ha scritto|"
    r"escreveu|schreef|skrev|napisał(?:\(a\))?|писал\w*|пишет)\s?[:：]$|"
    r"\S.{0,80}?(?:\s(?:ezt )?írta|\snap(?:sal|ísal)(?:a|\(a\))?|\skirjoitti|\s(?:на)?писал(?:а|\(а\))?|\sнаписав|\sпише|\sнаписа|\sje napisa(?:o|la|o/la)|"
    r"\sέγραψε|\s(?:şunu |şunları )?yazdı|\sa scris|\sha escrit|\smenulis|\sđã viết|\srašė|\srakstīja|\skirjutas|\sskrifaði|\s?(?:写道|寫道)|"
    r"さんは書きました|のメール|님이 작성|\sכתב\S{0,9})\s?[:：]$|"
    r"[^<>\n]{0,80}<[^<>\s@]{1,64}@[^<>\s]{1,200}> [^\W\d_]{2,20}\s?[:：]$)"
)

BEGUN = re.compile(r"\A(?:On|Am|Le|El|Il|Em|No dia|A|Op|Den|W dniu|Dnia|dnia|Dne|[ÎI]n)\b")

ATTRIBUTION_START = re.compile(rf"{BEGUN.pattern}|\A(?:.*<[^<>\s]+@|.*\d)")

OTHER_DIGIT = re.compile(r"(?![0-9])\d")  # Arabic, Persian, Devanagari

INVISIBLE = re.compile(r"[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # in introductions of right-to-left mails

DAY = re.compile(r"\b(?:19|20|25)\d\d\b|\d{1,2}[/.-]\d{1,2}[/.-]\d{2}")

TIME = re.compile(r"\d[:.h]\d\d")

ADDRESS = re.compile(r"[^\s<>@:]{1,64}@[^\s<>@]{1,200}")

POINT = re.compile(r"\A\s*[*•-]\s")  # of a list

MAX_WORDS = 14  # of an introduction, beside its address

# Where an introduction may begin in a line: behind a space or dashes.
INSIDE = re.compile(r"(?:\s{0,2}-{2,9}\s?|\s{1,3})(?=On\b|Am\b|Le\b|El\b|Il\b|Em\b|Op\b|Den\b|Dnia\b|W dniu\b)")

NO_END = re.compile(r"\d|\b(?:[^\W\d_]|Dr|Mrs?|Ms|Prof|St|Hr|Fr|Sra?|Mme)\.$")  # a full stop of a date or a name

MAX_BARE_WORDS, MIN_OWN_WORDS = 8, 3  # "Kim J. Ode wrote:" is no sentence and an introduction

MAX_STARTS = 20  # places of one line where an introduction may begin that are tried

SENTENCE_END = re.compile(r"(?<=[.!?:)\]…。！？])\s+(?=\S)")


def split_introduction(line: str) -> tuple[str, str]:
    """(what I wrote before an introduction on its line, the introduction)."""
    if len(line) <= MAX_LINE and line.rstrip().endswith((":", "：")) and not BEGUN.match(line.strip()):
        ends = list(islice(SENTENCE_END.finditer(line), MAX_STARTS))
        for end in ends:
            below = line[end.end() :].rstrip()
            if BEGUN.match(below) and ATTRIBUTION.match(below) and DATE.search(below):
                return line[: end.start()], below
        for end in reversed(ends):
            below = line[end.end() :].rstrip()
            is_one = ADDRESS.search(below) and DATE.search(below) and ATTRIBUTION.match(below)
            is_bare = len(below.split()) <= MAX_BARE_WORDS and BARE_ATTRIBUTION.match(below)
            own = line[: end.start()]
            if (is_one or is_bare) and len(own.split()) >= MIN_OWN_WORDS and not NO_END.search(own):
                return own, below
        for start in islice(INSIDE.finditer(line), MAX_STARTS):
            below = line[start.end() :]
            is_dated = DATE.search(below[:40]) and TIME.search(below[:60]) and ADDRESS.search(below)
            if is_dated and ATTRIBUTION.match(below.rstrip()):
                return line[: start.start()], below
    return "", line


def introduces_quote(line: str, people: list[str]) -> bool:
    """Whether a line right above quoted ones introduces them: it names who wrote, or a person or address with a date."""
    line = bare_line(line)[:MAX_LINE]
    if BARE_ATTRIBUTION.match(line) or names_a_writer(line, people):
        return True
    if not DATE.search(line) or count_beside_address(line) > MAX_WORDS:
        return False
    is_dated = line.endswith((":", "：")) and bool(TIME.search(line))
    return is_dated or bool(ADDRESS.search(line)) or any(name in line.lower() for name in people)


def names_a_writer(line: str, people: list[str]) -> bool:
    """Whether it is a name and one or two words more, as "Ann Ode said:"; one that ends in the name greets somebody."""
    beside = (line[len(name) :] for name in people if line.lower().startswith(f"{name} "))
    return line.endswith((":", "：")) and any(len(words.rstrip(" :：").split()) in (1, 2) for words in beside)


def is_dashed_introduction(line: str) -> bool:
    """`---- Ann wrote ----`: nobody writes this but a program, whether it marks its quotes or not."""
    inside = bare_line(line[:MAX_LINE])
    is_short = len(inside.split()) <= MAX_BARE_WORDS
    return is_short and bool(DASHES_AROUND.match(line[:MAX_LINE]) and BARE_ATTRIBUTION.match(inside))


def bare_line(line: str) -> str:
    """Without marks that can't be seen and dashes around it: "---- Ann wrote ----" -> "Ann wrote:"; digits are 0 to 9."""
    line = INVISIBLE.sub("", line).strip()
    if not line.isascii():
        line = OTHER_DIGIT.sub(lambda digit: str(int(digit[0])), line)
    inside = DASHES_AROUND.match(line[:MAX_LINE])
    return f"{inside['inside'].rstrip(':')}:" if inside else line


def introduces_the_rest(introduction: str, above: str) -> bool:
    """Whether what follows without quote marks is another's: somebody's own "Bob wrote on 3 May:" is not enough."""
    found = {match[0][:1] == "@" for match in WHEN_OR_WHO.finditer(introduction)}
    return len(found) == 2 or (bool(found) and not above.strip())


def attribution_length(lines: list[str]) -> int:
    """Lines that an introduction such as `On ..., ... wrote:` at the top takes, wrapped or not; 0 for none.

    It names a date or an address, so that prose ending in "wrote:" is not one; where no word for writing is known, it
    names both, and a time.
    """
    if len(lines[0]) > MAX_LINE or not ATTRIBUTION_START.match(bare_line(lines[0])):
        return 0
    joined = ""
    for number, line in enumerate(lines, start=1):
        is_point = number > 1 and POINT.match(line)
        if not line.strip() or is_quoted(line) or is_point or len(line) > MAX_LINE:
            return 0
        joined = f"{joined} {bare_line(line)}".strip()
        if joined.endswith((":", "：")):
            if is_introduction(joined) or (ATTRIBUTION.match(joined) and re.search(r"\d|@", joined)):
                return number
        elif number == 1 and is_without_colon(joined):
            return number
    return 0


def is_introduction(text: str) -> bool:
    """By structure, in any language: beside its colon it holds an address, a date and a time, and little else."""
    if not ADDRESS.search(text):
        return False
    return bool(DAY.search(text) and TIME.search(text)) and count_beside_address(text) <= MAX_WORDS


def count_beside_address(text: str) -> int:
    return len(re.sub(rf"<?{ADDRESS.pattern}>?", "", text).split())


def is_without_colon(text: str) -> bool:
    """`On Mon, 2 Mar 2026 09:00 Ann <ann@example.org> wrote`: the verb right behind the address."""
    if GMAIL_WITHOUT_ADDRESS.match(text):
        return True
    return bool(
        BEGUN.match(text)
        and WITHOUT_COLON.match(text)
        and DATE.search(text)
        and TIME.search(text)
        and ATTRIBUTION.match(f"{text}:")
    )
