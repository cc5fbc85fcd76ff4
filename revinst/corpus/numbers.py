"""Which numbers identify somebody: phones, payment cards, bank accounts, and long ones; not dates, prices and versions.

What stands between the digits and before them tells most: `1914-1918`, `Tel. 1234-5678`, `12 500 000 EUR`.
"""

# ruff: noqa: RUF001  # other scripts are meant
import re
from functools import lru_cache

import phonenumbers
from phonenumbers import Leniency, PhoneNumberMatcher

# Where numbers that are written without the code of their country begin with 0, and where they don't.
WITH_ZERO = (
    "GB", "DE", "FR", "IT", "NL", "UA", "TR", "AT", "CH", "BE", "SE", "FI", "IE", "RO", "HU", "AU", "NZ", "IN", "ZA",
    "JP", "KR", "CN", "IL", "EG", "SA", "VN", "ID", "TH", "AR",
)  # fmt: skip
WITHOUT_ZERO = ("US", "ES", "IT", "PL", "RU", "BR", "MX", "PT", "NO", "DK", "CZ", "GR", "IN", "CN")
# A call announced: "Tel.", "ruf mich an unter", "mi móvil es".
CALLS = re.compile(
    r"(?:\b(?:tel|phone|call|mobile?\b|cell|handy|fax|whatsapp|sms\b|text me|ring me|number is|nummer ist|"
    r"rufe?(?=[nt\s])|anruf|fon\b|festnetz|durchwahl|t[ée]l[ée]phon|portable|appel|m[óo]vil|llama|celular|chiama|"
    r"cellulare|bel me|dzwo|zadzwo|komórk|тел|звон|мобильн|дзвон)|電話|携帯|电话|手机|전화|핸드폰|هاتف|جوال|טלפון|נייד)"
    r"\w*(?:[^\w\n]{1,3}[^\W\d]{1,9}){0,3}[^\w\n]{0,3}\Z",
    re.IGNORECASE,
)
MONEY = re.compile(r"(?:[$€£¥₹₽]|\b(?:usd|eur|gbp|chf|inr|rs)\b\.?)\s?\Z", re.IGNORECASE)
UNIT = re.compile(
    r"\s?(?:[$€£¥₹₽%°]|(?:usd|eur|euros?|gbp|chf|pln|czk|zł|kč|kr|ft|lei|dollars?|pounds?|rubl\w{0,9}|руб\w{0,9}|грн|km\w?|kg|"
    r"cm|mm|m[²³]|sq|square|tons?|tonn\w{1,9}|miles?|lbs?|hp|kwh?|[kmg]b|bytes?|crore|lakh|million\w{0,9}|billion\w{0,9}|mio|mrd|"
    r"inhabitants|people|residents|einwohner\w{0,9}|habitants?|habitantes|abitanti|views|users|words|years|hours)\b)",
    re.IGNORECASE,
)
# When, not who: dates, spans of years, times, small decimals; 20260302.
WHEN = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\s?\d{1,2}\2\s?\d{2,4}|"
    r"\d{1,2}[.:]\d{2}\s?[-\u2013]\s?\d{1,2}[.:]\d{2}|\d{1,3}(?:\.\d{3})+|"
    r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
)
YEAR = re.compile(r"1\d{3}|20\d\d")
DECIMAL = re.compile(r"\d{1,20}\.\d{1,20}")
GROUPED = re.compile(r"[1-9]\d{0,2}(?:[ \u00a0\u2009\u202f']\d{3})+")  # 12 500 000
REFERENCE = re.compile(r"(?:19|20)\d\d[-/]\d{1,5}")  # 2024-00123, which a shop or an office gives
SOCIAL = re.compile(r"\d{3}-\d{2}-\d{4}")
QUAD = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
MIN_JOINED = 10  # digits of a long number in parts
MIN_ALONE = 9  # of a phone that neither a 0 nor a word announces; shorter ones are as often two years or a score
NORDIC = ((2, 2, 2, 2), (3, 2, 3))
MAX_PHONE = 15  # digits, https://www.itu.int/rec/T-REC-E.164
CARD = re.compile(r"[2-6]\d{12,18}")
ANNOUNCED = 40  # characters before a number that may announce it


def kind_of_number(value: str, before: str = "", after: str = "") -> str:
    """`phone`, `payment card` or `long number`; "" for what identifies nobody.

    value: a stretch of digits and of what may stand between them. before, after: the text around it.
    """
    digits, parts = re.sub(r"\D", "", value), re.findall(r"\d+", value)
    is_called = bool(CALLS.search(before[-ANNOUNCED:]))
    if is_when(value, parts) or is_book(digits, before):
        return ""
    if CARD.fullmatch(digits) and has_card_check(digits) and not re.search(r"[.+]", value):
        return "payment card"
    if not is_called and (MONEY.search(before[-6:]) or UNIT.match(after)):
        return ""
    if value.lstrip("(").isdigit():
        return "" if re.search(r"0{3}\Z", value) and len(value) <= MIN_JOINED else "long number"
    if len(digits) <= MAX_PHONE and (is_called or is_phone(value)):
        return "phone"
    return "long number" if is_long(value, parts) else ""


def is_when(value: str, parts: list[str]) -> bool:
    """Dates and times, and years with each other or with days beside them: `1899 1950`, `2003-04`, `17-21 2011`."""
    if WHEN.fullmatch(value.strip("()")):
        return True
    years = [bool(YEAR.fullmatch(part)) for part in parts]
    return any(years) and all(is_year or len(part) <= 2 for is_year, part in zip(years, parts, strict=True))


def is_book(digits: str, before: str) -> bool:
    """ISBN (also without its name, with 13 digits) and ISSN: https://www.isbn-international.org/content/isbn-users-manual"""
    if re.fullmatch(r"97[89]\d{10}", digits):
        return sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10 == 0
    return bool(re.search(r"\bISBN(?:-1[03])?\W{0,3}\Z|\b[ei]?ISSN\W{0,3}\Z", before[-ANNOUNCED:], re.IGNORECASE))


def is_long(value: str, parts: list[str]) -> bool:
    """Of what has something between its digits: an account, a customer's number, an address in a network."""
    joined = "".join(parts)
    if SOCIAL.fullmatch(value):
        return True
    if QUAD.fullmatch(value):
        return len(joined) >= 8 and all(int(part) <= 255 for part in parts)
    if re.search(r"[./]|.\(", value) or GROUPED.fullmatch(value) or REFERENCE.fullmatch(value):
        return False
    sizes = list(map(len, parts))
    if len(joined) > MAX_PHONE and max(sizes) >= 4:
        return True
    return len(joined) >= MIN_JOINED and min(sizes) >= 3 and not YEAR.fullmatch(parts[0])


@lru_cache(maxsize=1 << 14)
def is_phone(value: str) -> bool:
    """With the code of a country, or valid somewhere; where it does not begin with 0 also grouped as it is there."""
    plain = re.sub(r"[\s\u00a0\u2009\u202f]+", " ", re.sub(r"[\u2010-\u2015\u2212]", "-", value))
    digits = re.sub(r"\D", "", plain)
    if plain.startswith("+") or digits.startswith("00"):
        return is_international("+" + digits.lstrip("0") if digits.startswith("00") else plain)
    if DECIMAL.fullmatch(plain) or ("." in plain and re.search(r"[ /-]", plain)) or plain.find("(", 4) > 0:
        return False
    if digits.startswith("0"):
        return any(is_valid(digits, region) for region in WITH_ZERO)
    if "/" in plain or (len(digits) < MIN_ALONE and tuple(map(len, re.findall(r"\d+", plain))) not in NORDIC):
        return False
    return any(is_valid(digits, region) and is_grouped(plain, region) for region in WITHOUT_ZERO)


def is_international(value: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(value))
    except phonenumbers.NumberParseException:
        return False


def is_valid(digits: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number_for_region(phonenumbers.parse(digits, region), region)
    except phonenumbers.NumberParseException:
        return False


def is_grouped(value: str, region: str) -> bool:
    """Whether the digits stand together as numbers of that region are written."""
    found = PhoneNumberMatcher(value, region, Leniency.STRICT_GROUPING)
    return any(len(re.sub(r"\D", "", each.raw_string)) == len(re.sub(r"\D", "", value)) for each in found)


def has_card_check(digits: str) -> bool:
    """Luhn's check digit, ISO/IEC 7812-1."""
    doubled = (int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def has_account_check(value: str) -> bool:
    """The check digits of an IBAN, ISO 13616: 97 leaves 1."""
    plain = re.sub(r"[^A-Z0-9]", "", value.upper())
    turned = plain[4:] + plain[:4]
    return len(plain) >= 15 and int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1
