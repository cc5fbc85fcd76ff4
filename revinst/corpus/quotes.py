# ruff: noqa: E501  (patterns)
"""What somebody wrote in a mail, without what others wrote: quotes, forwards, header blocks, signatures.

Lines are judged from the top. A header block or a forward's mark cuts off all that follows; a quoted stretch (`>`)
and the line that introduces it go, what is written between and below stays (interleaved answers).
"""

import re
from itertools import takewhile

MAX_ATTRIBUTION_LINES = 5
MAX_HEADER_LINES = 12
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
    (r"Dne\b", r"napsal\S*.*"),
    (r"\S", r"kirjoitti\b.*"),
    (r"\S", r"(?:пишет|написала?|писал\S*|пише|написав|написала)"),
    (r"[ÎI]n\b", r"a scris"),
    (r"\S", r"yazd\w"),
    (r"\S", r"ezt írta.*"),
    (r"\S", r"님이 작성"),
    (r"\S", r"(?:写道|寫道|のメール)"),
    (r"[^<>\n]{0,80}<[^<>\s]+@[^<>\s]+>", r"(?:wrote|schrieb|a écrit|escribió|ha scritto|escreveu|schreef|skrev)\b.*"),
    (r".{0,80}?\d", r"<[^<>\s]+@[^<>\s]+>"),  # Gmail: "2026-03-02 10:00 GMT+01:00 Ann <ann@...>:"
)
ATTRIBUTION = re.compile("|".join(rf"(?:{start}.{{0,400}}?{end}\s?[::]$)" for start, end in ATTRIBUTIONS))
ATTRIBUTION_START = re.compile(
    r"(?:On|Am|Le|El|Il|Em|No dia|A|Op|Den|W dniu|Dnia|dnia|Dne|[ÎI]n)\b|\d{4}[-/.]\d|.*<[^<>\s]+@|.*\d"
)
FORWARD_WORDS = (
    r"forwarded message|original message|original appointment|weitergeleitete (?:nachricht|mail)|"
    r"urspr[üu]ngliche (?:nachricht|mail)|message (?:transf[ée]r[ée]|d'origine|original)|mensaje (?:reenviado|original)|"
    r"messaggio (?:inoltrato|originale)|mensagem (?:encaminhada|original)|(?:doorgestuurd|oorspronkelijk) bericht|"
    r"vidarebefordrat meddelande|ursprungligt meddelande|videresendt (?:meddelelse|besked)|oprindelig meddelelse|"
    r"wiadomość (?:przekazana|oryginalna)|(?:přeposlaná|původní) zpráva"
)
FORWARD = re.compile(
    rf"[\s*_]*(?:-{{2,}}\s*(?:{FORWARD_WORDS})\b.*|(?:begin forwarded message|anfang der weitergeleiteten nachricht|"
    r"d[ée]but du message (?:transf[ée]r[ée]|r[ée]exp[ée]di[ée])|inicio del mensaje reenviado|inizio messaggio inoltrato)\s?:\s*)$",
    re.IGNORECASE,
)
SENDER_HEADER = re.compile(
    r"[\s*]*(?:From|Von|De|Da|Van|Från|Fra|Od|Lähettäjä|От|Від|Feladó|De la|Kimden|보낸 사람|发件人|寄件者|差出人)\s?:\**\s*\S"
)
OTHER_HEADER = re.compile(
    r"[\s*]*(?:Sent|Date|To|Cc|Bcc|Subject|Reply-To|Importance|Attachments|Gesendet|Datum|An|Betreff|Antwort an|Envoyé|"
    r"À|Objet|Enviado(?: el)?|Fecha|Para|Asunto|Inviato|Data|A|Oggetto|Verzonden|Aan|Onderwerp|Assunto|Skickat|Till|"
    r"Ämne|Sendt|Dato|Til|Emne|Wysłano|Do|DW|Temat|"
    r"Lähetetty|Vastaanottaja|Kopio|Aihe|Отправлено|Дата|Кому|Копия|Тема|Надіслано|Odesláno|Komu|Kopie|Předmět|"
    r"Küldve|Címzett|Tárgy|Trimis|Către|Subiect|Gönderildi|Tarih|Kime|Konu|보낸 날짜|받는 사람|제목|发送时间|收件人|主题|"
    r"送信日時|宛先|件名)\s?:\**(?:\s|$)"
)
MIN_HEADERS = 3
SIGNATURE_MARK = re.compile(r"--\s?$")
RULE = re.compile(r"\s*[_-]{10,}\s*$")
DEVICE = re.compile(
    r"\s*(?:Sent from (?:my|Mail for|Outlook|Yahoo)\b|Get Outlook for\b|Von meinem \S+ gesendet|Gesendet (?:von|mit)\b|"
    r"Diese Nachricht wurde von meinem\b|Envoyé (?:de|depuis) mon\b|Enviado (?:desde|do) m\w+\b|Inviato d[ae]l?\b.*"
    r"(?:iPhone|iPad|Android|cellulare)|Verstuurd vanaf mijn\b|Verzonden vanaf mijn\b|Skickat från min\b|Sendt fra min\b|"
    r"Wysłane z\b).{0,60}$"
)
DISCLAIMER = re.compile(
    r"\s*(?:(?:this|the information in this) (?:e-?mail|message|communication).{0,80}(?:confidential|intended)|"
    r"(?:confidentiality|disclaimer)\b.{0,20}:|diese e-?mail (?:enthält|ist) .{0,40}vertraulich|"
    r"please consider the environment)",
    re.IGNORECASE,
)
CONTACT = re.compile(
    r"\S+@\S+\.\w|https?://|\bwww\.|\+?\d[\d ()/.-]{7,}\d|^\s*(?:tel|phone|mobile|mobil|fax|cell)\b", re.IGNORECASE
)


def strip_quotes(text: str) -> str:
    """The writer's own lines of a mail's plain text; "" where there are none."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\u200b", "").split("\n")
    kept = drop_quoted(cut_at_marks(lines))
    kept = cut_signature(kept)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in kept)).strip()


def cut_at_marks(lines: list[str]) -> list[str]:
    """Without all that follows a forward's mark or a header block of somebody else's message."""
    for number, line in enumerate(lines):
        if len(line) > MAX_LINE:
            continue
        if FORWARD.match(line) or is_header_block(lines[number : number + MAX_HEADER_LINES]):
            end = number
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
    kept: list[str] = []
    number = 0
    while number < len(lines):
        if has_quotes[number]:
            number += 1
            continue
        length = attribution_length(lines[number : number + MAX_ATTRIBUTION_LINES])
        if not length:
            kept.append(lines[number])
            number += 1
            continue
        number += length
        following = next((row for row in range(number, len(lines)) if lines[row].strip()), None)
        if following is None or not has_quotes[following]:
            break  # the client quotes without marks
    return kept


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
        joined = f"{joined} {line.strip()}".strip()
        if ATTRIBUTION.match(joined) and re.search(r"\d|@", joined):
            return number
    return 0


def cut_signature(lines: list[str]) -> list[str]:
    """Without signature, advertisement of the device, disclaimer and contact lines at the end."""
    for number, line in enumerate(lines):
        if len(line) > MAX_LINE:
            continue
        if SIGNATURE_MARK.fullmatch(line) or DEVICE.match(line) or DISCLAIMER.match(line):
            lines = lines[:number]
            break
    return drop_contact_lines(drop_trailing_blank(lines))


def drop_trailing_blank(lines: list[str]) -> list[str]:
    while lines and (not lines[-1].strip() or RULE.match(lines[-1])):
        lines = lines[:-1]
    return lines


def drop_contact_lines(lines: list[str]) -> list[str]:
    """A last paragraph with two lines or more of addresses, phones or links loses all from the first of them."""
    start = len(lines)
    while start and lines[start - 1].strip():
        start -= 1
    contacts = [row for row in range(start, len(lines)) if len(lines[row]) < 80 and CONTACT.search(lines[row])]
    if len(contacts) < 2 or contacts[-1] != len(lines) - 1:
        return lines
    return drop_trailing_blank(lines[: contacts[0]])
