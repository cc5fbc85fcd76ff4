# ruff: noqa: E501, RUF001  (patterns)
"""Where somebody else's message begins in a mail: a block of its headers, or a forward's mark.

A block is told by its structure in any language and order: three and more `Key: value` lines, with addresses and a date.
Lists of words are for what has no structure: blocks of names without addresses, marks without a block.
"""

import re
from itertools import islice, takewhile

MAX_HEADER_LINES = 12
MAX_LINE = 2000  # no header or mark is longer; patterns are not tried on what is
FORWARD_WORDS = (
    r"forwarded message|original message|reply message|original appointment|weitergeleitete (?:nachricht|mail)|antwort nachricht|"
    r"urspr[üu]ngliche (?:nachricht|mail)|message (?:transf[ée]r[ée]|d'origine|original)|mensaje (?:reenviado|original)|"
    r"messaggio (?:inoltrato|originale)|mensagem (?:encaminhada|original)|(?:doorgestuurd|oorspronkelijk) bericht|"
    r"vidarebefordrat meddelande|ursprungligt meddelande|videresendt (?:meddelelse|besked)|oprindelig meddelelse|"
    r"wiadomość (?:przekazana|oryginalna)|(?:přeposlaná|původní|originální) zpráva|replied message|original(?=\s*-{2})|"
    r"(?:originalmeddelande|eredeti üzenet|alkuperäinen viesti|mesaj original|αρχικό μήνυμα|opprinnelig melding|original besked|"
    r"orijinal (?:mesaj|ileti)|pôvodná správa|izvorna poruka|izvirno sporočilo|algne kiri|missatge original)|"
    r"(?:исходное|оригинальное|пересылаемое|пересланное) (?:сообщение|письмо)|(?:оригінальне|вихідне|переслане) повідомлення|"
    r"元のメッセージ|(?:원본|전달된) (?:메시지|메일|이메일)|(?:原始|转发|轉寄|回复的原)(?:邮件|郵件|的?消息)"
)
FORWARD_MARK = re.compile(
    rf"\A[\s*_]*(?:[-\u2010]{{2,}}\s*(?:{FORWARD_WORDS})\b.*|(?:(?:begin )?forwarded message|anfang der weitergeleiteten nachricht|"
    r"d[ée]but du message (?:transf[ée]r[ée]|r[ée]exp[ée]di[ée])|inicio del mensaje reenviado|inizio messaggio inoltrato|"
    r"begin doorgestuurd bericht|in[íi]cio da mensagem (?:reencaminhada|encaminhada)|vidarebefordrat (?:brev|mejl|meddelande)|"
    r"(?:start på )?videresendt (?:besked|melding)|początek przekazywanej wiadomości|začátek přeposílané zprávy|"
    r"välitetty viesti alkaa|továbbított levél kezdete|iletilen ileti başlangıcı|начало переадресованного (?:сообщения|письма)|"
    r"転送されたメッセージ|전달된 메시지|下面是被转发的邮件|以下是轉寄的(?:信件|郵件))\s?[:：]\s*)$",
    re.IGNORECASE,
)
SENDER_HEADER = re.compile(
    r"\A[\s*_]*(?:From|Von|De|Da|Van|Från|Fra|Od|Lähettäjä|От|От кого|Від|Від кого|Feladó|De la|Kimden|Gönderen|Šalje|Pošiljatelj|"
    r"Expéditeur|Absender|Mittente|Remitente|Remetente|Afzender|Nadawca|Avsändare|Odesílatel|Frá|Nork|No(?=:\s[^<>\n]{0,80}<)|Nga|Mula kay|Daripada|Од|Кімнен|"
    r"Από|Saatja|Nuo|Dari|Từ|จาก|من|از|מאת|प्रेषक|से|থেকে|ვისგან|보낸\s?사람|발신|发件人|寄件[者人]|差出人|送信者)\s?:[*_]*\s*\S"
)
OTHER_NAMES = (
    r"(?:Sent|Date|To|Cc|Bcc|Subject|Reply-To|Importance|Attachments|Gesendet|Datum|An|Betreff|Antwort an|Envoyé|"
    r"À|Objet|Enviado(?: el)?|Fecha|Para|Asunto|Inviato|Data|A|Oggetto|Verzonden|Aan|Onderwerp|Assunto|Skickat|Till|"
    r"Ämne|Sendt|Dato|Til|Emne|Wysłano|Do|DW|Temat|"
    r"Lähetetty|Vastaanottaja|Kopio|Aihe|Отправлено|Дата|Кому|Копия|Тема|Надіслано|Odesláno|Komu|Kopie|Předmět|"
    r"Küldve|Címzett|Tárgy|Trimis|Către|Subiect|Gönderildi|Tarih|Kime|Konu|보낸 날짜|받는 사람|날짜|제목|发送时间|收件人|主题|"
    r"日期|收件者|主旨|日付|Päivämäärä|Dátum|Predmet|Prima|Za|Zadeva|Ημερομηνία|Προς|Θέμα|Kuupäev|Adressaat|Teema|Kam|Tema|"
    r"Tanggal|Kepada|Subjek|Ngày|Đến|Chủ đề|วันที่|ถึง|เรื่อง|التاريخ|إلى|الموضوع|תאריך|אל|נושא|"
    r"Enviat(?: el)?|Per a|Assumpte|Bidaltze-data|Nori|Gaia|Dagsetning|Efni|Nosūtīts|Datums|Tēma|Išsiųsta|Dërguar|Për|Subjekti|"
    r"Petsa|Para kay|Paksa|Tarikh|Perihal|Dikirim|Poslano|Poslato|Изпратено|Относно|До|Испратено|Датум|За|Жіберілді|Кімге|Тақырыбы|"
    r"Destinataire|Empfänger|Destinatario|Destinatário|Mottagare|Adresat|Příjemce|تم الإرسال|تاریخ|ارسال\u200cشده|به|موضوع|נשלח|"
    r"दिनांक|भेजा गया|प्रति|को|विषय|তারিখ|প্রতি|বিষয়|გაგზავნილია|ვის|თემა|보낸\s?날짜|받는\s?사람|수신|寄件日期|送信日時|宛先|件名)\s?:[*_]*(?:\s|$)"
)
OTHER_HEADER = re.compile(rf"\A[\s*_]*{OTHER_NAMES}")
OTHER_INSIDE = re.compile(rf"\s\**{OTHER_NAMES}")
MIN_HEADERS = 3
MAX_ABOVE_QUOTE = 3  # lines between a forward's mark and what is quoted: an introduction
KEY_LINE = re.compile(r"\A[\s*_]{0,12}[^\W\d_][^:：\n@<>/]{0,28}(?:[:：][*_]*(?:\s|\Z)|：|(?<=\s):)\s*(?P<value>.*)")
# A first one, behind which some programs write it again: "a@example.org<mailto:a@example.org>". A sentence has more
# words before it.
MAILBOX = re.compile(r"\A(?P<name>[^@\n]{0,160}[^@\s])@[^\s@<]{2,200}(?:[\s<]|\Z)")
MAX_NAME_WORDS, MAX_WRAPPED_WORDS = 8, 4
BEHALF = re.compile(
    r"\A\s*\**(?:On Behalf Of|im Auftrag von|de la part de|en nombre de|per conto di|em nome de|namens)\b",
    re.IGNORECASE,
)
OPEN_VALUE = re.compile(r"(?:[,;]|[<\[][^>\]]{0,200})\s*\Z")
DATE = re.compile(r"\b(?:19|20)\d\d\b|\d[:.h]\d\d|\d{1,2}[/.-]\d{1,2}[/.-]\d{2}")
DASHED = re.compile(r"\A\s*[-_=\u2010]{2,}\s?[^\W\d_][^-_=\u2010\n@:]{2,60}[-_=\u2010]{2,}[\s*]*$")
DASHES_AROUND = re.compile(r"\A\s*[-=]{2,}\s*(?P<inside>[^\s=-].{0,400}?)\s*[-=]{2,}\s*$")
FORWARD_ON_ONE_LINE = re.compile(
    r"\A\s*-{3,}\s?[^\W\d_][^-\n@:]{2,60}-{3,}\s{0,9}[^\W\d_][^:：\n@]{0,30}[:：].{0,200}@"
)
GROUPWISE = re.compile(
    r"\A\s*>>>\s(?=.{0,200}\d:[0-5]\d)[^>\n]{3,120}(?:>[^>\n]{3,60})?>>>\s*$"
)  # ">>> Ann 3/2/2026 9:00 AM >>>"
RULE = re.compile(r"\A\s*[_=-]{3,}\s*$")
ADDRESS = re.compile(r"[^\s<>@:]{1,64}@[^\s<>@]{1,200}")
DAY = re.compile(r"(?<!\d)\d{1,2}(?!\d)")
YEAR, TIME = re.compile(r"\b(?:19|20)\d\d\b"), re.compile(r"\d:[0-5]\d\b")
NAMED_SENDER = re.compile(rf"{SENDER_HEADER.pattern}[^<>]{{0,120}}<[^\s<>@]{{1,64}}@[^\s<>@]{{1,200}}>\s*$")


def cut_at_marks(lines: list[str]) -> list[str]:
    """Without all that follows a forward's mark or a header block of somebody else's message.

    A mark above quoted lines (`>`) goes alone: what is written below these stays.
    """
    lines, kept = list(lines), list[str]()
    for number, line in enumerate(lines):
        following = lines[number + 1 : number + 1 + MAX_HEADER_LINES]
        if len(line) > MAX_LINE or not begins_message(line, following):
            kept.append(line)
        elif not is_mark(line) or not any(map(is_quoted, islice(filter(str.strip, following), MAX_ABOVE_QUOTE))):
            return drop_above(kept)
        else:
            mark_stuck(lines, number + 1)
    return kept


def mark_stuck(lines: list[str], start: int) -> None:
    """Puts a `>` before each line that hangs between the quoted ones of a forward: a program wrapped it.

    Answers in a forward stand between blank lines.
    """
    while not is_quoted(lines[start]):
        start += 1
    end = start
    while end < len(lines) and lines[end].strip():
        end += 1
    while not is_quoted(lines[end - 1]):
        end -= 1
    lines[start:end] = [line if is_quoted(line) else f"> {line}" for line in lines[start:end]]


def begins_message(line: str, following: list[str]) -> bool:
    if FORWARD_MARK.match(line) or FORWARD_ON_ONE_LINE.match(line) or GROUPWISE.match(line):
        return True
    if DASHED.match(line) and is_block([below for below in following if below.strip()], is_marked=True):
        return True
    return is_block([line, *following]) or is_header_block([line, *following]) or is_short_block(line, following)


def is_mark(line: str) -> bool:
    return bool(FORWARD_MARK.match(line) or DASHED.match(line) or GROUPWISE.match(line))


def is_quoted(line: str) -> bool:
    return line.lstrip().startswith((">", "|>"))


def drop_above(kept: list[str]) -> list[str]:
    """Without headers (some put the date before the sender), rules, blank lines and an unknown mark at the end."""
    end = len(kept)
    while end and OTHER_HEADER.match(kept[end - 1]):
        end -= 1
    while end and (RULE.match(kept[end - 1]) or not kept[end - 1].strip()):
        end -= 1
    is_marked = end and len(kept) - end <= 1 and DASHES_AROUND.match(kept[end - 1][:MAX_LINE])
    return kept[: end - 1] if is_marked else kept[:end]


def is_block(lines: list[str], is_marked: bool = False) -> bool:
    """Whether three lines and more from the top are `Key: value`, two of them with addresses and one with a date.

    One address is enough below a forward's mark. Values may be wrapped and blank lines lie between (converted HTML).
    """
    if not KEY_LINE.match(lines[0] if lines else ""):
        return False
    num_keys, num_addresses, has_date, value, max_words = 0, 0, False, "", MAX_NAME_WORDS
    for number, line in enumerate(lines):
        if key := KEY_LINE.match(line):
            value, max_words = key["value"], MAX_NAME_WORDS
            num_keys += 1
        elif not line.strip() and any(KEY_LINE.match(below) for below in lines[number + 1 : number + 2]):
            continue
        elif num_keys and line.strip() and (line[:1] in " \t<[" or OPEN_VALUE.search(value) or BEHALF.match(line)):
            value, max_words = line.strip(), MAX_WRAPPED_WORDS
        else:
            break
        mailbox = MAILBOX.match(value)
        num_addresses += bool(mailbox and len(mailbox["name"].split()) <= max_words)
        has_date = has_date or (not mailbox and is_date(value))
    return num_keys >= MIN_HEADERS and has_date and num_addresses >= 2 - is_marked


def is_date(value: str) -> bool:
    """A year alone is none."""
    return bool(DATE.search(value) and DAY.search(value))


def is_header_block(lines: list[str]) -> bool:
    """A sender's line and at least two more headers below it, blank lines between them or not (converted HTML).

    A sender further down needs a date with a time beside it: "Date:" and "Subject:" may stand above the names alone.
    """
    if not is_known_header(lines[0]):
        return False
    block = [lines[0], *takewhile(KEY_LINE.match, (line for line in lines[1:] if line.strip()))]
    if SENDER_HEADER.match(lines[0]):
        return 1 + sum(map(bool, map(OTHER_HEADER.match, block[1:]))) >= MIN_HEADERS
    known, joined = list(takewhile(is_known_header, block)), " ".join(block)
    has_sender = any(map(SENDER_HEADER.match, known))
    return len(known) >= MIN_HEADERS and has_sender and bool(YEAR.search(joined) and TIME.search(joined))


def is_short_block(line: str, following: list[str]) -> bool:
    """Fewer headers than a block has: a sender with an address in angle brackets, alone in its paragraph; or two known
    headers and more, on one line or several, with an address, a year and a time.
    """
    if NAMED_SENDER.match(line):
        return not "".join(following[:1]).strip()
    if not (SENDER_HEADER.match(line) or OTHER_HEADER.match(line)):
        return False
    block = [line, *takewhile(is_known_header, following)]
    joined = " ".join(block)
    is_several = len(block) > 1 or bool(OTHER_INSIDE.search(line))
    return is_several and all(part.search(joined) for part in (ADDRESS, YEAR, TIME))


def is_known_header(line: str) -> bool:
    return bool(SENDER_HEADER.match(line) or OTHER_HEADER.match(line))
