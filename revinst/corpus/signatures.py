# ruff: noqa: E501  (patterns)
"""What stands below a text in a mail: signature, advertisement of the device, disclaimer, contact lines, list's footer."""

import re

MAX_SIGNATURE_LINES = 12
MAX_LINE = 2000  # no mark is longer; patterns are not tried on what is
SIGNATURE_MARK = re.compile(r"\A--\s?$")
RULE = re.compile(r"\A\s*[_=~\u2014\u2500-]{10,}\s*$")
EMPTY = re.compile(r"\A[\s\u1427]*$")  # the mark is what a tracker of mails leaves
CARD_RULE = re.compile(
    r"\A\s*(?:_{2,}|-{2,}|={3,}|[*#+]{5,}|[~=-]{10,}|[\u2014\u2500]{5,}|(?:[-_*] ){3,20}[-_*])\s*$"
)  # above a list's footer or somebody's card
PRODUCT = r"(?:TypeApp|Tuta|Superhuman|Outlook|Mail|Yahoo|Proton|Thunderbird|Samsung|BlackBerry|GMX|WEB\.DE|Posta|Correo|iPhone|iPad|Android)"
# "[Mail](https://...)", "*Sent from ...*", "[Sent from ...]", "-- Sent from ...": how a device line may be marked
MARKDOWN_LINK = re.compile(r"\[([^\[\]\n]{1,60})\]\(https?://[^\s()]{1,300}\)")
MARKS_AROUND = re.compile(r"\A\s*(?:[*_\[~]|--?\s)?\s?(?P<inside>[^\W\d_].{0,300}?)[*_\]]?\s*$")
# "Checked for viruses by Avast", or "Virus-free." at the beginning: a sentence about a scanner is neither.
VIRUS_CHECKED = re.compile(r"\b(?:checked|scanned|geprüft|vérifiée?|verificado|controllata)\b", re.IGNORECASE)
VIRUS_FREE = re.compile(
    r"\A\W*(?:virus-free|virenfrei|(?:libre de|privo di) virus|garanti sans virus)\b", re.IGNORECASE
)
VIRUS = re.compile(r"\bvir(?:us|uses|en|enfrei)\b", re.IGNORECASE)
SCANNER = re.compile(
    r"\b(?:Avast|AVG|avast\.com|avg\.com|www\.avast\.\w+|Avira|ESET|NOD32|Kaspersky|McAfee|Norton)\b", re.IGNORECASE
)
LINK_BEHIND = r"(?:\s?[<(\[]{1,2}https?://\S{1,300})?"
DEVICE = re.compile(
    rf"\A\s*[(<]{{0,2}}(?:Sent (?:from|with|via|using) (?:(?:my |the (?:all new )?|an? )?(?:[A-Z0-9]|iP|my[A-Z]|(?:mobile|cell|phone|smartphone|tablet|handheld|wireless|device|pocket)\b))|Sent wirelessly\b|Securely sent with Tuta|Sent on the .{{1,40}} (?:Network|from my)\b|(?:Get|Download|Télécharger|Obtener|Ottieni|Obter(?: o)?|Hanki|Hämta|Hent|Pobierz) \[?(?:Outlook|BlueMail) (?:for|para|pour|per|til|till|dla|voor)\b|"
    rf"Outlook für \w+ (?:beziehen|herunterladen)|Holen Sie sich Outlook\b|Von (?:meinem .{{1,40}}|.{{0,20}}(?:{PRODUCT}|Galaxy).{{0,30}}) gesendet|"
    rf"(?:Sicher )?(?:gesendet|versendet) (?:mit|über) {PRODUCT}|Enviado (?:con|via|por|desde) (?:{PRODUCT})|Envoyé avec .{{0,40}}{PRODUCT}|"
    rf"Inviato con .{{0,30}}{PRODUCT}|(?:Verzonden|Verstuurd) (?:vanuit|met|vanaf) (?:de )?{PRODUCT}|Skickat från (?:E-post|{PRODUCT})|Sendt fra {PRODUCT}|"
    rf"Este mensaje ha sido enviado desde mi\b|Wysłano z\b|[Ee]nvoyé ?: depuis mon\b|"
    rf"Gesendet (?:von|mit|über) (?:(?:mein|der)\w*\b|{PRODUCT})|Diese Nachricht wurde von meinem\b|"
    rf"Envoyé (?:(?:de|depuis) mon\b|(?:à partir de|depuis|de) (?:l['\u2019]application )?{PRODUCT})|"
    rf"Enviado (?:(?:desde|do) m\w+\b|(?:desde|do|a partir do) {PRODUCT})|"
    rf"Inviato d[ae]l?\b.*(?:{PRODUCT}|cellulare|dispositivo)|Verstuurd vanaf mijn\b|Verzonden vanaf mijn\b|"
    r"Yahoo Mail: Search, Organize|Skickat från min\b|Sendt fra min\b|Wysłane z\b).{0,80}?" + LINK_BEHIND + "$"
)
# "Get Outlook for iOS" in any language: no sentence, since it has no end.
OUTLOOK = re.compile(rf"\A[^.!?\n]{{0,60}}\bOutlook\b[^.!?\n]{{0,40}}?{LINK_BEHIND}\s*$")
SYSTEM = re.compile(r"\b(?:iOS|Android|Mac|Windows)")
# In the languages whose verb stands behind the device or is inflected: "iPhoneから送信", "Lähetetty iPhonesta".
SENT_WORD = re.compile(
    r"отправлен|надіслан|изпратен|послат|lähetet|odesl|poslan|odoslan|trimis|küldve|elküld|gönderil|saadetud|nosūtīt|išsiųst|"
    r"送信|傳送|传送|发自|發自|보냄|보낸|נשלח|أُ?رسل|ارسال|भेजा|enviat|εστάλη|στάλθηκε|(?:đã|được) gửi|ส่งจาก|dikirim|terkirim|gửi từ|发送|الإرسال|نُشر",
    re.IGNORECASE,
)
DEVICE_NAME = re.compile(
    rf"{PRODUCT}|iPhon|Galaxy|Huawei|Xiaomi|Pixel|Windows|Gmail|삼성|Яндекс|айфон|телефон|手机|手機|携帯|휴대",
    re.IGNORECASE,
)
PLACE = re.compile(
    r"\A\s*Sent (?:from|via|with|using) [A-Z]\S*(?: [A-Z]\S*)?, [a-z]+ [a-z]+ [a-z]+"
)  # a sentence goes on
DISCLAIMER = re.compile(
    r"\A\s*(?:(?:this|the information in this) (?:e-?mail|message|communication).{0,80}(?:confidential|intended)|"
    r"(?:confidentiality|disclaimer)\b.{0,20}:.{0,200}(?:confidential|intended|privileged|recipient)|"
    r"diese e-?mail (?:enthält|ist) .{0,40}vertraulich|please consider the environment)",
    re.IGNORECASE,
)
PHONE = re.compile(r"\+?\d[\d ()/.-]{7,}\d|^\s*(?:tel|phone|mobile|mobil|fax|cell)\b", re.IGNORECASE)
WHEN = re.compile(
    r"\b(?:19|20)\d\d\b(?:[-/.]\d\d?[-/.]\d\d?)?|\d\d?[-/.]\d\d?[-/.](?:(?:19|20)\d\d|\d\d)\b|\d[:.h]\d\d\b(?!\d)|(?<=\d )[+-]\d{4}$|https?://\S+"
)
NOTE = re.compile(r"\A\s{0,9}(?:[\[(]?\d{1,3}[\]).:]|[*•-]\s)")  # of a list, whose links belong to the text
LINK_ALONE = re.compile(r"\A\s*[<(]?(?:https?://|www\.)\S{1,300}\s*$")
LIST_WORD = re.compile(
    r"mailing[- ]?lis|unsubscribe|/listinfo/|/sympa/|lista de correo|liste de diffusion|googlegroups", re.IGNORECASE
)
ADDRESS = re.compile(r"\S@[^\s@]+\.\w")
LINK = re.compile(rf"{ADDRESS.pattern}|https?://|\bwww\.", re.IGNORECASE)


def cut_signature(lines: list[str]) -> list[str]:
    """Without signature, advertisement of the device, disclaimer and contact lines at the end."""
    lines = drop_ruled_contacts(drop_trailing_blank(lines))
    lefts = [bool(line.strip()) for line in lines]
    left = sum(lefts)
    for number, line in enumerate(lines):
        if (
            left - 1 <= MAX_SIGNATURE_LINES
            and len(line) <= MAX_LINE
            and ends_own_text(line, lines[number + 1 : number + 2])
        ):
            lines = lines[: number - 1] if number and CARD_RULE.match(lines[number - 1]) else lines[:number]
            break
        left -= lefts[number]
    return drop_contact_lines(drop_trailing_blank(lines))


def ends_own_text(line: str, following: list[str]) -> bool:
    """following: the next line, if there is one. A `--` before a blank line is a rule in the text."""
    has_text_below = bool(following and following[0].strip())
    is_device_below = has_text_below and bool(LINK_ALONE.match(following[0]) or is_device_line(following[0]))
    if SIGNATURE_MARK.fullmatch(line):
        return line != "--" or has_text_below or not following
    below = following[0][:MAX_LINE] if following else ""
    return bool(
        (is_device_line(line) and (not has_text_below or is_device_below)) or DISCLAIMER.match(f"{line} {below}")
    )


def is_device_line(line: str) -> bool:
    """Also of a program that looked for viruses."""
    line = MARKDOWN_LINK.sub(r"\1", line)
    if inside := MARKS_AROUND.match(line):
        line = inside["inside"]
    is_checked = bool(VIRUS_CHECKED.search(line) or VIRUS_FREE.match(line))
    if is_checked and len(line.split()) <= 20 and VIRUS.search(line) and SCANNER.search(line):
        return True
    if PLACE.match(line) and not DEVICE_NAME.search(line):
        return False
    if DEVICE.match(line) or (len(line.split()) <= 6 and OUTLOOK.match(line) and SYSTEM.search(line)):
        return True
    return len(line.split()) <= 8 and bool(SENT_WORD.search(line[:80]) and DEVICE_NAME.search(line[:80]))


def drop_trailing_blank(lines: list[str]) -> list[str]:
    end = len(lines)
    while end and (EMPTY.match(lines[end - 1]) or RULE.match(lines[end - 1])):
        end -= 1
    return lines[:end]


def drop_ruled_contacts(lines: list[str]) -> list[str]:
    """Without a rule near the end and what stands below it, if that is a card or a list's footer: short lines, of which
    two and more are phones, addresses or links, not all of them links, or one is a link and another names a mailing
    list; and no notes or points of a list.
    """
    for number in range(len(lines) - 1, max(len(lines) - 2 * MAX_SIGNATURE_LINES, -1), -1):
        if CARD_RULE.match(lines[number]):
            below = [line for line in lines[number + 1 :] if line.strip()]
            is_short = len(below) <= MAX_SIGNATURE_LINES and all(len(line) < 100 for line in below)
            contacts = [line for line in below if has_phone(line) or LINK.search(line)]
            is_card = len(contacts) >= 2 and any(has_phone(line) or ADDRESS.search(line) for line in contacts)
            is_footer = bool(contacts) and any(map(LIST_WORD.search, below))
            if is_short and (is_card or is_footer) and not any(map(NOTE.match, below)):
                return drop_ruled_contacts(drop_trailing_blank(lines[:number]))  # each list adds its own
    return lines


def drop_contact_lines(lines: list[str]) -> list[str]:
    """A last paragraph that ends in lines of a phone and of an address or link loses all from the first of them."""
    start = len(lines)
    while start and lines[start - 1].strip():
        start -= 1
    short = [number for number in range(start, len(lines)) if len(lines[number]) < 80]
    phones = [number for number in short if has_phone(lines[number])]
    links = [number for number in short if LINK.search(lines[number])]
    contacts = sorted({*phones, *links})
    if not phones or not links or len(contacts) < 2 or contacts[-1] != len(lines) - 1:
        return lines
    return drop_trailing_blank(lines[: contacts[0]])


def has_phone(line: str) -> bool:
    """Dates, times and numbers in links are none."""
    return bool(PHONE.search(WHEN.sub("", line)))
