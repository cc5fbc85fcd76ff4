# ruff: noqa: E501, RUF001  (patterns)
"""What somebody wrote in a mail, without what others wrote: quotes, forwards, header blocks, signatures.

Lines are judged from the top. A header block or a forward's mark cuts off all that follows; a quoted stretch (`>`)
and the line that introduces it go, what is written between and below stays (interleaved answers).
"""

import re
from itertools import takewhile

MAX_ATTRIBUTION_LINES = 5
MAX_HEADER_LINES = 12
MAX_SIGNATURE_LINES = 12
MAX_LINE = 2000  # no header, mark or introduction is longer; patterns are not tried on what is
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
    (r"[ÎI]n\b", r"a scris"),
    (r"\S", r"yazd\w"),
    (r"\S", r"ezt írta.*"),
    (r"\S", r"님이 작성"),
    (r"\S", r"(?:写道|寫道|のメール)"),
    (r"[^<>\n]{0,80}<[^<>\s@]+@[^<>\s]+>", r"(?:wrote|schrieb|a écrit|escribió|ha scritto|escreveu|schreef|skrev)\b.*"),
    (r".{0,80}?(?:\d{4}|\d:\d\d)", r"<[^<>\s@]+@[^<>\s]+>"),  # Gmail: "2026-03-02 10:00 GMT+01:00 Ann <ann@...>:"
)
ATTRIBUTION = re.compile(r"\A(?:" + "|".join(rf"{start}.{{0,400}}?{end}\s?[:：]$" for start, end in ATTRIBUTIONS) + ")")
WHEN_OR_WHO = re.compile(r"@|\b\d{4}\b|\d[:.h]\d\d")
# Without a date these introduce what is quoted right below them, and nothing else.
BARE_ATTRIBUTION = re.compile(
    r"\A(?:(?:Zitat von|Quoting|Citando|Citat från)\b.{0,200}[:：]$|.{0,200}\b(?:wrote|writes|schrieb|a écrit|escribió|ha scritto|"
    r"escreveu|schreef|skrev|napisał(?:\(a\))?|писал\w*|пишет)\s?[:：]$)"
)
ATTRIBUTION_START = re.compile(
    r"\A(?:(?:On|Am|Le|El|Il|Em|No dia|A|Op|Den|W dniu|Dnia|dnia|Dne|[ÎI]n)\b|.*<[^<>\s]+@|.*\d)"
)
FORWARD_WORDS = (
    r"forwarded message|original message|original appointment|weitergeleitete (?:nachricht|mail)|"
    r"urspr[üu]ngliche (?:nachricht|mail)|message (?:transf[ée]r[ée]|d'origine|original)|mensaje (?:reenviado|original)|"
    r"messaggio (?:inoltrato|originale)|mensagem (?:encaminhada|original)|(?:doorgestuurd|oorspronkelijk) bericht|"
    r"vidarebefordrat meddelande|ursprungligt meddelande|videresendt (?:meddelelse|besked)|oprindelig meddelelse|"
    r"wiadomość (?:przekazana|oryginalna)|(?:přeposlaná|původní) zpráva"
)
FORWARD_MARK = re.compile(
    rf"\A[\s*_]*(?:-{{2,}}\s*(?:{FORWARD_WORDS})\b.*|(?:begin forwarded message|anfang der weitergeleiteten nachricht|"
    r"d[ée]but du message (?:transf[ée]r[ée]|r[ée]exp[ée]di[ée])|inicio del mensaje reenviado|inizio messaggio inoltrato)\s?:\s*)$",
    re.IGNORECASE,
)
SENDER_HEADER = re.compile(
    r"\A[\s*]*(?:From|Von|De|Da|Van|Från|Fra|Od|Lähettäjä|От|Від|Feladó|De la|Kimden|보낸 사람|发件人|寄件者|差出人)\s?:\**\s*\S"
)
OTHER_HEADER = re.compile(
    r"\A[\s*]*(?:Sent|Date|To|Cc|Bcc|Subject|Reply-To|Importance|Attachments|Gesendet|Datum|An|Betreff|Antwort an|Envoyé|"
    r"À|Objet|Enviado(?: el)?|Fecha|Para|Asunto|Inviato|Data|A|Oggetto|Verzonden|Aan|Onderwerp|Assunto|Skickat|Till|"
    r"Ämne|Sendt|Dato|Til|Emne|Wysłano|Do|DW|Temat|"
    r"Lähetetty|Vastaanottaja|Kopio|Aihe|Отправлено|Дата|Кому|Копия|Тема|Надіслано|Odesláno|Komu|Kopie|Předmět|"
    r"Küldve|Címzett|Tárgy|Trimis|Către|Subiect|Gönderildi|Tarih|Kime|Konu|보낸 날짜|받는 사람|제목|发送时间|收件人|主题|"
    r"送信日時|宛先|件名)\s?:\**(?:\s|$)"
)
MIN_HEADERS = 3
SIGNATURE_MARK = re.compile(r"\A--\s?$")
RULE = re.compile(r"\A\s*[_-]{10,}\s*$")
PRODUCT = r"(?:Outlook|Mail|Yahoo|Proton|Thunderbird|Samsung|BlackBerry|GMX|WEB\.DE|Posta|Correo|iPhone|iPad|Android)"
DEVICE = re.compile(
    rf"\A\s*(?:Sent (?:from|with|via) (?:(?:my|the)\b|{PRODUCT})|(?:Get|Télécharger|Obtener|Ottieni|Obter) Outlook (?:for|para|pour|per)\b|"
    rf"Outlook für \w+ (?:beziehen|herunterladen)|Holen Sie sich Outlook\b|Von meinem .{{1,40}} gesendet|"
    rf"Gesendet (?:von|mit|über) (?:(?:mein|der)\w*\b|{PRODUCT})|Diese Nachricht wurde von meinem\b|"
    rf"Envoyé (?:(?:de|depuis) mon\b|(?:à partir de|depuis|de) (?:l'application )?{PRODUCT})|"
    rf"Enviado (?:(?:desde|do) m\w+\b|(?:desde|do|a partir do) {PRODUCT})|"
    rf"Inviato d[ae]l?\b.*(?:{PRODUCT}|cellulare|dispositivo)|Verstuurd vanaf mijn\b|Verzonden vanaf mijn\b|"
    r"Skickat från min\b|Sendt fra min\b|Wysłane z\b).{0,60}$"
)
DISCLAIMER = re.compile(
    r"\A\s*(?:(?:this|the information in this) (?:e-?mail|message|communication).{0,80}(?:confidential|intended)|"
    r"(?:confidentiality|disclaimer)\b.{0,20}:.{0,200}(?:confidential|intended|privileged|recipient)|"
    r"diese e-?mail (?:enthält|ist) .{0,40}vertraulich|please consider the environment)",
    re.IGNORECASE,
)
PHONE = re.compile(r"\+?\d[\d ()/.-]{7,}\d|^\s*(?:tel|phone|mobile|mobil|fax|cell)\b", re.IGNORECASE)
LINK = re.compile(r"\S@[^\s@]+\.\w|https?://|\bwww\.", re.IGNORECASE)
PGP = re.compile(r"-----BEGIN PGP MESSAGE-----.*?(?:-----END PGP MESSAGE-----|\Z)", re.DOTALL)
PGP_SIGNED, PGP_SIGNATURE = "-----BEGIN PGP SIGNED MESSAGE-----\n", "-----BEGIN PGP SIGNATURE-----"
PGP_HEADERS = re.compile(r"\A(?:[\w-]+: [^\n]*\n)*+\n?")
INVISIBLE = re.compile(r"[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # in introductions of right-to-left mails


def strip_quotes(text: str) -> str:
    """The writer's own lines of a mail's plain text; "" where there are none."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\u200b", "")
    lines = drop_armour(text).split("\n")
    kept = drop_quoted(cut_at_marks(lines))
    kept = cut_signature(kept)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in kept)).strip()


def drop_armour(text: str) -> str:
    """Without what PGP wrote around or in place of the text."""
    signed, signature = text.partition(PGP_SIGNED)[2].partition(PGP_SIGNATURE)[:2]
    if signature:
        text = re.sub(r"^- ", "", PGP_HEADERS.sub("", signed), flags=re.MULTILINE)
    return PGP.sub("", text)


def cut_at_marks(lines: list[str]) -> list[str]:
    """Without all that follows a forward's mark or a header block of somebody else's message."""
    for number, line in enumerate(lines):
        if len(line) > MAX_LINE:
            continue
        if FORWARD_MARK.match(line) or is_header_block(lines[number : number + MAX_HEADER_LINES]):
            end = number
            while end and OTHER_HEADER.match(lines[end - 1]) and not FORWARD_MARK.match(line):
                end -= 1  # some put the date before the sender
            while end and (RULE.match(lines[end - 1]) or not lines[end - 1].strip()):
                end -= 1
            return lines[:end]
    return lines


def is_header_block(lines: list[str]) -> bool:
    """A sender's line and at least two more headers below it, blank lines between them or not (converted HTML)."""
    if not SENDER_HEADER.match(lines[0]):
        return False
    following = [line for line in lines[1:] if line.strip()]
    return 1 + sum(1 for _ in takewhile(OTHER_HEADER.match, following)) >= MIN_HEADERS


def drop_quoted(lines: list[str]) -> list[str]:
    """Without quoted lines and what introduces them; an introduction with no quoted line after it cuts the rest."""
    has_quotes = [is_quoted(line) for line in lines]
    next_text = find_next_text(lines)
    kept: list[str] = []
    number = 0
    while number < len(lines):
        if has_quotes[number]:
            number += 1
            continue
        introduction = lines[number : number + MAX_ATTRIBUTION_LINES]
        length = attribution_length(introduction)
        following = next_text[number + (length or 1)]
        is_above_quote = following is not None and has_quotes[following]
        if is_above_quote and (length or BARE_ATTRIBUTION.match(INVISIBLE.sub("", lines[number]).strip()[:MAX_LINE])):
            number += length or 1
        elif length and introduces_the_rest(" ".join(introduction[:length]), "".join(kept[-1:])):
            break  # the client quotes without marks
        else:
            kept.append(lines[number])
            number += 1
    return kept


def find_next_text(lines: list[str]) -> list[int | None]:
    """For each line, and for the end, the first one from there on that is not blank; None where there is none."""
    found: list[int | None] = [None]
    for number in range(len(lines) - 1, -1, -1):
        found.append(number if lines[number].strip() else found[-1])
    return found[::-1]


def introduces_the_rest(introduction: str, above: str) -> bool:
    """Whether what follows without quote marks is another's: somebody's own "Bob wrote on 3 May:" is not enough."""
    found = {match[0][:1] == "@" for match in WHEN_OR_WHO.finditer(introduction)}
    return len(found) == 2 or (bool(found) and not above.strip())


def is_quoted(line: str) -> bool:
    return line.lstrip().startswith((">", "|>"))


def attribution_length(lines: list[str]) -> int:
    """Lines that an introduction such as `On ..., ... wrote:` at the top takes, wrapped or not; 0 for none.

    It names a date or an address, so that prose ending in "wrote:" is not one.
    """
    if len(lines[0]) > MAX_LINE or not ATTRIBUTION_START.match(lines[0].strip()):
        return 0
    joined = ""
    for number, line in enumerate(lines, start=1):
        if not line.strip() or is_quoted(line) or len(line) > MAX_LINE:
            return 0
        joined = f"{joined} {INVISIBLE.sub('', line).strip()}".strip()
        if ATTRIBUTION.match(joined) and re.search(r"\d|@", joined):
            return number
    return 0


def cut_signature(lines: list[str]) -> list[str]:
    """Without signature, advertisement of the device, disclaimer and contact lines at the end."""
    lines = drop_trailing_blank(lines)
    lefts = [bool(line.strip()) for line in lines]
    left = sum(lefts)
    for number, line in enumerate(lines):
        if (
            left - 1 <= MAX_SIGNATURE_LINES
            and len(line) <= MAX_LINE
            and ends_own_text(line, lines[number + 1 : number + 2])
        ):
            lines = lines[:number]
            break
        left -= lefts[number]
    return drop_contact_lines(drop_trailing_blank(lines))


def ends_own_text(line: str, following: list[str]) -> bool:
    """following: the next line, if there is one. A `--` before a blank line is a rule in the text."""
    has_text_below = bool(following and following[0].strip())
    if SIGNATURE_MARK.fullmatch(line):
        return line != "--" or has_text_below or not following
    below = following[0][:MAX_LINE] if following else ""
    return bool((DEVICE.match(line) and not has_text_below) or DISCLAIMER.match(f"{line} {below}"))


def drop_trailing_blank(lines: list[str]) -> list[str]:
    end = len(lines)
    while end and (not lines[end - 1].strip() or RULE.match(lines[end - 1])):
        end -= 1
    return lines[:end]


def drop_contact_lines(lines: list[str]) -> list[str]:
    """A last paragraph that ends in lines of a phone and of an address or link loses all from the first of them."""
    start = len(lines)
    while start and lines[start - 1].strip():
        start -= 1
    short = [number for number in range(start, len(lines)) if len(lines[number]) < 80]
    phones, links = ([number for number in short if kind.search(lines[number])] for kind in (PHONE, LINK))
    contacts = sorted({*phones, *links})
    if not phones or not links or len(contacts) < 2 or contacts[-1] != len(lines) - 1:
        return lines
    return drop_trailing_blank(lines[: contacts[0]])
