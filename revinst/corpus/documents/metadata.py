"""Who wrote a document, and when, by what it says beside its text."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from revinst.corpus.tables import read_iso

# What programs write where nobody gave a name.
NOBODY = frozenset(
    [
        "user",
        "owner",
        "admin",
        "administrator",
        "unknown",
        "author",
        "default",
        "microsoft office user",
        "windows user",
        "microsoft",
        "hp",
        "dell",
        "acer",
        "lenovo",
        "asus",
        "python-docx",
        "openpyxl",
        "apache poi",
        "libreoffice",
        "openoffice.org",
        "google docs",
        "anonymous",
        "benutzer",
        "utilisateur",
        "usuario",
        "utente",
        "none",
        "null",
        "n/a",
        "-",
    ]
)
PDF_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?")
LEAST = (1, 1, 1, 0, 0, 0)  # of a date that is cut
DATE_FORMS = ("%Y/%m/%d", "%d.%m.%Y", "%B %d, %Y %I:%M %p", "%B %d, %Y", "%d %B %Y", "%Y/%m/%d %H:%M", "%Y%m%dT%H%M%SZ")


def authors_of(names: Iterable[object]) -> tuple[str, ...]:
    """Those of one document as one author, `Ann; Bob`: what two wrote together is not one's own. () for nobody."""
    split = (part for name in names if isinstance(name, str) for part in name.replace("\n", ";").split(";"))
    clean = (" ".join(part.replace("[[", "").replace("]]", "").split()) for part in split)
    kept = dict.fromkeys(part for part in clean if part and part.casefold() not in NOBODY)
    return ("; ".join(kept),) if kept else ()


def read_any_date(value: object) -> str:
    """ISO 8601 in UTC, of the forms in which notes and documents have dates; "" for none that is plain."""
    text = " ".join(str(value).split()) if value not in (None, "") else ""
    if found := read_iso(text):
        return found
    for form in DATE_FORMS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).isoformat(timespec="seconds")
        except ValueError:
            continue
    return ""


def read_pdf_date(value: object) -> str:
    """`D:20260302100000Z`, and parts of it; its time zone is left aside."""
    if not (found := PDF_DATE.match(str(value or ""))):
        return ""
    year, month, day, hour, minute, second = (
        int(part) if part else least for part, least in zip(found.groups(), LEAST, strict=True)
    )
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).isoformat(timespec="seconds")
    except ValueError:
        return ""
