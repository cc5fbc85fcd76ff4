# ruff: noqa: E501, RUF001  (what programs write)
"""Answers as twenty forms of mail programs write them in ten languages, and introductions of many more.

All people are invented. `make_mails` gives (name of the case, the mail, what I wrote in it, what others wrote).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

ME, ADDRESS = "alex@example.org", "kim@example.com"


@dataclass(frozen=True)
class Locale:
    """own: greeting and two sentences. Introductions have {name} and {addr}. Labels are of sender, date, receiver and
    subject; those of Thunderbird's forward of subject, date, sender and receiver; Gmail's of sender, date, subject and
    receiver.
    """

    name: str
    own: tuple[str, str, str]
    theirs: tuple[str, str]
    goodbye: str
    gmail: str
    apple: str
    thunderbird: str
    yahoo: str
    labels: tuple[str, str, str, str]
    new_labels: tuple[str, str, str, str]
    date: str
    forward: str
    forward_labels: tuple[str, str, str, str]
    gmail_labels: tuple[str, str, str, str]
    iphone: str
    outlook: str
    original: str
    original_labels: tuple[str, str, str, str]
    apple_forward: str


LOCALES = {
    "pt": Locale(
        name="Kim Odé", own=("Oi Kim,", "O sábado está ótimo para mim.", "Levo as duas escadas e o café."),
        theirs=("Meu joelho dói desde segunda.", "O médico quer me ver de novo."), goodbye="Um abraço,\nAlex",
        gmail="Em seg., 2 de mar. de 2026 às 09:00, {name} <{addr}> escreveu:",
        apple="Em 2 de mar. de 2026, à(s) 09:00, {name} <{addr}> escreveu:",
        thunderbird="Em 02/03/2026 09:00, {name} escreveu:", yahoo="Em segunda-feira, 2 de março de 2026 09:00:12 BRT, {name} <{addr}> escreveu:",
        labels=("De", "Enviado", "Para", "Assunto"), new_labels=("De", "Enviada em", "Para", "Assunto"), date="segunda-feira, 2 de março de 2026 09:00",
        forward="-------- Mensagem encaminhada --------", forward_labels=("Assunto", "Data", "De", "Para"), gmail_labels=("De", "Date", "Subject", "To"),
        iphone="Enviado do meu iPhone", outlook="Obter o Outlook para iOS", original="-------- Mensagem original --------",
        original_labels=("De", "Data", "Para", "Assunto"), apple_forward="Início da mensagem encaminhada:"),
    "sv": Locale(
        name="Kim Åde", own=("Hej Kim!", "Lördag passar mig bra.", "Jag tar med båda stegarna."),
        theirs=("Jag har ont i knät sedan i måndags.", "Läkaren vill träffa mig igen."), goodbye="Hälsningar\nAlex",
        gmail="Den mån 2 mars 2026 kl 09:00 skrev {name} <{addr}>:",
        apple="2 mars 2026 kl. 09:00 skrev {name} <{addr}>:",
        thunderbird="Den 2026-03-02 kl. 09:00, skrev {name}:", yahoo="Den måndag 2 mars 2026 09:00:12 CET, {name} <{addr}> skrev:",
        labels=("Från", "Skickat", "Till", "Ämne"), new_labels=("Från", "Datum", "Till", "Ämne"), date="den 2 mars 2026 09:00",
        forward="-------- Vidarebefordrat meddelande --------", forward_labels=("Ämne", "Datum", "Från", "Till"), gmail_labels=("Från", "Date", "Subject", "To"),
        iphone="Skickat från min iPhone", outlook="Hämta Outlook för iOS", original="-------- Originalmeddelande --------",
        original_labels=("Från", "Datum", "Till", "Rubrik"), apple_forward="Vidarebefordrat brev:"),
    "cs": Locale(
        name="Kim Odová", own=("Ahoj Kim,", "sobota se mi hodí.", "Přinesu oba žebříky."),
        theirs=("Od pondělí mě bolí koleno.", "Lékař mě chce znovu vidět."), goodbye="S pozdravem\nAlex",
        gmail="po 2. 3. 2026 v 9:00 odesílatel {name} <{addr}> napsal:",
        apple="2. 3. 2026 v 9:00, {name} <{addr}>:",
        thunderbird="Dne 02. 03. 26 v 9:00 {name} napsal(a):", yahoo="V pondělí 2. března 2026 9:00:12 SEČ, {name} <{addr}> napsal(a):",
        labels=("Od", "Odesláno", "Komu", "Předmět"), new_labels=("Od", "Datum", "Komu", "Předmět"), date="pondělí 2. března 2026 9:00",
        forward="-------- Přeposlaná zpráva --------", forward_labels=("Předmět", "Datum", "Od", "Komu"), gmail_labels=("Od", "Date", "Subject", "To"),
        iphone="Odesláno z iPhonu", outlook="Získat Outlook pro iOS", original="-------- Původní zpráva --------",
        original_labels=("Od", "Datum", "Komu", "Předmět"), apple_forward="Začátek přeposílané zprávy:"),
    "fi": Locale(
        name="Kim Oden", own=("Hei Kim,", "lauantai sopii minulle.", "Tuon molemmat tikkaat."),
        theirs=("Polveni on ollut kipeä maanantaista.", "Lääkäri haluaa nähdä minut uudestaan."), goodbye="Terveisin\nAlex",
        gmail="ma 2.3.2026 klo 9.00 {name} ({addr}) kirjoitti:",
        apple="{name} <{addr}> kirjoitti 2.3.2026 kello 9.00:",
        thunderbird="{name} kirjoitti 2.3.2026 klo 9.00:", yahoo="maanantaina 2. maaliskuuta 2026 klo 9.00.12 UTC+2, {name} <{addr}> kirjoitti:",
        labels=("Lähettäjä", "Lähetetty", "Vastaanottaja", "Aihe"), new_labels=("Lähettäjä", "Päivämäärä", "Vastaanottaja", "Aihe"), date="maanantai 2. maaliskuuta 2026 9.00",
        forward="-------- Välitetty viesti --------", forward_labels=("Aihe", "Päiväys", "Lähettäjä", "Vastaanottaja"), gmail_labels=("Lähettäjä", "Date", "Subject", "To"),
        iphone="Lähetetty iPhonesta", outlook="Hanki Outlook for iOS", original="-------- Alkuperäinen viesti --------",
        original_labels=("Lähettäjä", "Päivämäärä", "Saaja", "Aihe"), apple_forward="Välitetty viesti alkaa:"),
    "hu": Locale(
        name="Óde Kim", own=("Szia Kim!", "A szombat jó nekem.", "Hozom mindkét létrát."),
        theirs=("Hétfő óta fáj a térdem.", "Az orvos újra látni akar."), goodbye="Üdv\nAlex",
        gmail="{name} <{addr}> ezt írta (időpont: 2026. márc. 2., H, 9:00):",
        apple="{name} <{addr}> írta (2026. márc. 2. dátummal, 9:00 időpontban):",
        thunderbird="2026. 03. 02. 9:00 keltezéssel, {name} írta:", yahoo="2026. március 2., hétfő 09:00:12 CET időpontban {name} <{addr}> ezt írta:",
        labels=("Feladó", "Elküldve", "Címzett", "Tárgy"), new_labels=("Feladó", "Dátum", "Címzett", "Tárgy"), date="2026. március 2., hétfő 9:00",
        forward="-------- Továbbított üzenet --------", forward_labels=("Tárgy", "Dátum", "Feladó", "Címzett"), gmail_labels=("Feladó", "Date", "Subject", "To"),
        iphone="iPhone-omról küldve", outlook="Outlook beszerzése iOS rendszerhez", original="-------- Eredeti üzenet --------",
        original_labels=("Feladó", "Dátum", "Címzett", "Tárgy"), apple_forward="Továbbított levél kezdete:"),
    "uk": Locale(
        name="Кім Оде", own=("Привіт, Кім!", "Субота мені підходить.", "Я принесу обидві драбини."),
        theirs=("У мене з понеділка болить коліно.", "Лікар хоче бачити мене знову."), goodbye="До зустрічі\nАлекс",
        gmail="пн, 2 бер. 2026 р. о 09:00 {name} <{addr}> пише:",
        apple="2 бер. 2026 р. о 09:00 {name} <{addr}> пише:",
        thunderbird="02.03.26 09:00, {name} пише:", yahoo="понеділок, 2 березня 2026 р., 09:00:12 GMT+2, {name} <{addr}> написав(-ла):",
        labels=("Від", "Надіслано", "Кому", "Тема"), new_labels=("Від", "Дата", "Кому", "Тема"), date="2 березня 2026 р. 9:00",
        forward="-------- Переслане повідомлення --------", forward_labels=("Тема", "Дата", "Від кого", "Кому"), gmail_labels=("Від", "Date", "Subject", "To"),
        iphone="Надіслано з iPhone", outlook="Отримати Outlook для iOS", original="-------- Вихідне повідомлення --------",
        original_labels=("Від", "Дата", "Кому", "Тема"), apple_forward="Початок листа, який пересилається:"),
    "ko": Locale(
        name="오데 킴", own=("안녕하세요 킴 님,", "토요일은 괜찮습니다.", "사다리 두 개를 가져가겠습니다."),
        theirs=("월요일부터 무릎이 아파요.", "의사가 다시 보자고 했어요."), goodbye="감사합니다\n알렉스",
        gmail="2026년 3월 2일 (월) 오전 9:00, {name} <{addr}>님이 작성:",
        apple="2026. 3. 2. 오전 9:00, {name} <{addr}> 작성:",
        thunderbird="2026-03-02 오전 9:00에 {name} 이(가) 쓴 글:", yahoo="2026년 3월 2일 월요일 오전 09:00:12 GMT+9에 {name} <{addr}>님이 작성:",
        labels=("보낸 사람", "보낸 날짜", "받는 사람", "제목"), new_labels=("보낸 사람", "날짜", "받는 사람", "제목"), date="2026년 3월 2일 월요일 오전 9:00",
        forward="-------- 전달된 메시지 --------", forward_labels=("제목", "날짜", "보낸 사람", "받는 사람"), gmail_labels=("보낸사람", "Date", "Subject", "To"),
        iphone="나의 iPhone에서 보냄", outlook="iOS용 Outlook 다운로드", original="-------- 원본 이메일 --------",
        original_labels=("발신", "날짜", "수신", "제목"), apple_forward="전달된 메시지:"),
    "zh": Locale(
        name="欧德 金", own=("金你好：", "星期六我没问题。", "我会带两把梯子来。"),
        theirs=("我的膝盖从星期一开始疼。", "医生想再见我一次。"), goodbye="祝好\n亚历克斯",
        gmail="{name} <{addr}> 于2026年3月2日周一 09:00写道：",
        apple="2026年3月2日 09:00，{name} <{addr}> 写道：",
        thunderbird="在 2026/3/2 9:00, {name} 写道:", yahoo="在 2026年3月2日星期一 GMT+8 09:00:12， {name}<{addr}> 写道：",
        labels=("发件人", "发送时间", "收件人", "主题"), new_labels=("发件人", "日期", "收件人", "主题"), date="2026年3月2日 9:00",
        forward="-------- 转发的消息 --------", forward_labels=("主题", "日期", "发件人", "收件人"), gmail_labels=("发件人", "Date", "Subject", "To"),
        iphone="发自我的 iPhone", outlook="获取 Outlook for iOS", original="-------- 原始邮件 --------",
        original_labels=("发件人", "日期", "收件人", "主题"), apple_forward="下面是被转发的邮件："),
    "el": Locale(
        name="Κιμ Οντέ", own=("Γεια σου Κιμ,", "το Σάββατο με βολεύει.", "Θα φέρω και τις δύο σκάλες."),
        theirs=("Με πονάει το γόνατο από τη Δευτέρα.", "Ο γιατρός θέλει να με ξαναδεί."), goodbye="Χαιρετισμούς\nΆλεξ",
        gmail="Στις Δευ 2 Μαρ 2026 στις 9:00 π.μ., ο χρήστης {name} <{addr}> έγραψε:",
        apple="Στις 2 Μαρ 2026, 9:00 π.μ., ο χρήστης {name} <{addr}> έγραψε:",
        thunderbird="Στις 2/3/2026 9:00 π.μ., ο/η {name} έγραψε:", yahoo="Στις Δευτέρα 2 Μαρτίου 2026 στις 09:00:12 π.μ. EET, ο χρήστης {name} <{addr}> έγραψε:",
        labels=("Από", "Στάλθηκε", "Προς", "Θέμα"), new_labels=("Από", "Ημερομηνία", "Προς", "Θέμα"), date="Δευτέρα, 2 Μαρτίου 2026 9:00 πμ",
        forward="-------- Προωθημένο μήνυμα --------", forward_labels=("Θέμα", "Ημερομηνία", "Από", "Προς"), gmail_labels=("Από", "Date", "Subject", "To"),
        iphone="Στάλθηκε από το iPhone μου", outlook="Λήψη του Outlook για iOS", original="-------- Αρχικό μήνυμα --------",
        original_labels=("Από", "Ημερομηνία", "Προς", "Θέμα"), apple_forward="Έναρξη προωθημένου μηνύματος:"),
    "ro": Locale(
        name="Kim Odescu", own=("Bună Kim,", "sâmbătă îmi convine.", "Aduc eu ambele scări."),
        theirs=("Mă doare genunchiul de luni.", "Medicul vrea să mă vadă din nou."), goodbye="Cu drag,\nAlex",
        gmail="În lun., 2 mar. 2026 la 09:00, {name} <{addr}> a scris:",
        apple="Pe 2 mar. 2026, la 09:00, {name} <{addr}> a scris:",
        thunderbird="Pe 02.03.2026 09:00, {name} a scris:", yahoo="luni, 2 martie 2026 la 09:00:12 EET, {name} <{addr}> a scris:",
        labels=("De la", "Trimis", "Către", "Subiect"), new_labels=("De la", "Dată", "Către", "Subiect"), date="luni, 2 martie 2026 09:00",
        forward="-------- Mesaj redirecționat --------", forward_labels=("Subiect", "Dată", "De la", "Către"), gmail_labels=("De la", "Date", "Subject", "To"),
        iphone="Trimis de pe iPhone-ul meu", outlook="Obțineți Outlook pentru iOS", original="-------- Mesaj original --------",
        original_labels=("De la", "Data", "Către", "Subiect"), apple_forward="Începutul mesajului redirecționat:"),
}  # fmt: skip
INTRODUCTIONS = {  # of programs and languages beside these
    "da": "Den man. 2. mar. 2026 kl. 09.00 skrev Kim Ode <kim@example.com>:",
    "no": "man. 2. mar. 2026 kl. 09:00 skrev Kim Ode <kim@example.com>:",
    "sk": "po 2. 3. 2026 o 9:00 Kim Ode <kim@example.com> napísal(a):",
    "hr": "pon, 2. ožu 2026. u 09:00 Kim Ode <kim@example.com> napisao je:",
    "sl": "V V pon., 2. mar. 2026 ob 09:00 je oseba Kim Ode <kim@example.com> napisala:",
    "et": "Kuupäev E, 2. märts 2026 kell 09:00 kirjutas kasutaja Kim Ode <kim@example.com>:",
    "lt": "2026-03-02, pr, 09:00 Kim Ode <kim@example.com> rašė:",
    "lv": "Pirmd., 2026. g. 2. marts plkst. 09:00 — lietotājs Kim Ode <kim@example.com> rakstīja:",
    "bg": "На пн, 2.03.2026 г. в 9:00 Kim Ode <kim@example.com> написа:",
    "sr": "пон, 2. мар 2026. у 09:00 Kim Ode <kim@example.com> је написао/ла:",
    "id": "Pada Sen, 2 Mar 2026 pukul 09.00 Kim Ode <kim@example.com> menulis:",
    "vi": "Vào Th 2, 2 thg 3, 2026 vào lúc 09:00 Kim Ode <kim@example.com> đã viết:",
    "he": "\u202bבתאריך יום ב׳, 2 במרץ 2026 ב-9:00 מאת \u202aKim Ode\u202c\u200f <\u202akim@example.com\u202c\u200f>:\u202c",
    "ar": "في الاثنين، 2 مارس 2026 في 9:00 ص تمت كتابة ما يلي بواسطة \u202aKim Ode\u202c\u200f <\u202akim@example.com\u202c\u200f>:",
    "fa": "در تاریخ دوشنبه ۲ مارس ۲۰۲۶،\u200f ۹:۰۰ Kim Ode <kim@example.com> نوشت:",
    "th": "ในวันที่ จ. 2 มี.ค. 2026 เวลา 09:00 Kim Ode <kim@example.com> เขียนว่า:",
    "hi": "सोम, 2 मार्च 2026 को 9:00 am बजे को Kim Ode <kim@example.com> ने लिखा:",
    "ca": "Missatge de Kim Ode <kim@example.com> del dia dl., 2 de març 2026 a les 9:00:",
    "gl": "O luns, 2 mar 2026 ás 9:00, Kim Ode (<kim@example.com>) escribiu:",
    "zhtw": "Kim Ode <kim@example.com> 於 2026年3月2日 週一 上午9:00寫道：",
    "is": "mán., 2. mar. 2026 kl. 09:00 skrifaði Kim Ode <kim@example.com>:",
    "frca": "Le lun. 2 mars 2026, à 09 h 00, Kim Ode <kim@example.com> a écrit :",
    "eu": "Kim Ode erabiltzaileak (kim@example.com) hau idatzi du (2026 mar. 2, al. (09:00)):",
    "ja": "2026年3月2日(月) 9:00 Kim Ode <kim@example.com>:",
    "apple ja": "2026/03/02 9:00、Kim Ode <kim@example.com>のメール：",
    "apple de": "Am 02.03.2026 um 09:00 schrieb Kim Ode <kim@example.com>:",
    "apple fr": "Le 2 mars 2026 à 09:00, Kim Ode <kim@example.com> a écrit :",
    "apple it": "Il giorno 2 mar 2026, alle ore 09:00, Kim Ode <kim@example.com> ha scritto:",
    "apple nl": "Op 2 mrt 2026, om 09:00 heeft Kim Ode <kim@example.com> het volgende geschreven:",
    "apple da": "Den 2. mar. 2026 kl. 09.00 skrev Kim Ode <kim@example.com>:",
    "apple pl": "Wiadomość napisana przez Kim Ode <kim@example.com> w dniu 2 mar 2026, o godz. 09:00:",
    "apple tr": "Kim Ode <kim@example.com> şunları yazdı (2 Mar 2026 09:00):",
    "apple he": "ב-2 במרץ 2026, בשעה 9:00, \u200fKim Ode <kim@example.com> כתב/ה:",
    "k9 de": "Am 2. März 2026 09:00:00 MEZ schrieb Kim Ode <kim@example.com>:",
    "k9 en": "On March 2, 2026 9:00:00 AM GMT+01:00, Kim Ode <kim@example.com> wrote:",
    "proton": "On Monday, March 2nd, 2026 at 9:00 AM, Kim Ode <kim@example.com> wrote:",
    "fastmail": "On Mon, Mar 2, 2026, at 9:00 AM, Kim Ode wrote:",
    "mutt": "On Mon, Mar 02, 2026 at 09:00:00AM +0100, Kim Ode wrote:",
    "evolution": "On Mon, 2026-03-02 at 09:00 +0100, Kim Ode wrote:",
    "evolution de": "Am Montag, dem 02.03.2026 um 09:00 +0100 schrieb Kim Ode:",
    "kmail": "On Monday, 2 March 2026 09:00:00 CET Kim Ode wrote:",
    "roundcube": "On 2026-03-02 09:00, Kim Ode wrote:",
    "zimbra": "----- On Mar 2, 2026, at 9:00 AM, Kim Ode kim@example.com wrote:",
    "gmx": "Gesendet: Montag, 02. März 2026 um 09:00 Uhr\nVon: \"Kim Ode\" <kim@example.com>\nAn: \"Alex Moreau\" <alex@example.org>\nBetreff: Garten",
    "webde": "Gesendet: Montag, 02. März 2026 um 09:00 Uhr\nVon: kim@example.com\nAn: alex@example.org\nBetreff: Garten",
    "lotus": "Kim Ode/HQ/Example@EXAMPLE wrote on 03/02/2026 09:00:00 AM:",
    "lotus2": "From:\tKim Ode/HQ/Example\nTo:\tAlex Moreau/HQ/Example@EXAMPLE\nDate:\t03/02/2026 09:00 AM\nSubject:\tGarden",
    "groupwise": ">>> Kim Ode <kim@example.com> 3/2/2026 9:00 AM >>>",
    "groupwise2": ">>> Kim Ode 02.03.2026 09:00 >>>",
    "tutanota": "2. Mar 2026, 09:00 by kim@example.com:",
    "superhuman": "On Mon, Mar 02, 2026 at 9:00 AM, Kim Ode < kim@example.com > wrote:",
    "spark": "On Mar 2, 2026 at 9:00 AM +0100, Kim Ode <kim@example.com>, wrote:",
    "mailru": "Понедельник, 2 марта 2026, 9:00 +03:00 от Kim Ode <kim@example.com>:",
    "yandex": "02.03.2026, 09:00, \"Kim Ode\" <kim@example.com>:",
    "qq": "------------------ 原始邮件 ------------------\n发件人: \"Kim Ode\" <kim@example.com>;\n发送时间: 2026年3月2日(星期一) 上午9:00\n收件人: \"Alex\"<alex@example.org>;\n主题: Garden",
    "naver": "-----Original Message-----\nFrom: \"Kim Ode\"<kim@example.com>\nTo: \"Alex\"<alex@example.org>;\nCc:\nSent: 2026-03-02 (월) 09:00:00 (GMT+09:00)\nSubject: Garden",
    "outlook ja": "From: Kim Ode <kim@example.com>\nSent: Monday, March 2, 2026 9:00 AM\nTo: Alex <alex@example.org>\nSubject: Re: Garden",
    "163": "At 2026-03-02 09:00:00, \"Kim Ode\" <kim@example.com> wrote:",
    "163 zh": "在 2026-03-02 09:00:00，\"Kim Ode\" <kim@example.com> 写道：",
    "newton": "On Mon, Mar 2, 2026 at 9:00am, Kim Ode <\nkim@example.com> wrote:",
    "outlook he": "מאת: Kim Ode <kim@example.com>\nנשלח: יום שני 02 מרץ 2026 09:00\nאל: Alex <alex@example.org>\nנושא: Garden",
    "outlook ar": "من: Kim Ode <kim@example.com>\nتم الإرسال: الاثنين, 2 مارس 2026 09:00\nإلى: Alex <alex@example.org>\nالموضوع: Garden",
    "outlook hr": "Šalje: Kim Ode <kim@example.com>\nPoslano: ponedjeljak, 2. ožujka 2026. 9:00\nPrima: Alex <alex@example.org>\nPredmet: Garden",
    "outlook bg": "От: Kim Ode <kim@example.com>\nИзпратено: понеделник, 2 март 2026 г. 9:00\nДо: Alex <alex@example.org>\nОтносно: Garden",
    "outlook no addr": "Von: Kim Ode\nGesendet: Montag, 2. März 2026 09:00\nAn: Alex Moreau\nBetreff: Garten",
    "outlook th": "จาก: Kim Ode <kim@example.com>\nส่งแล้ว: 2 มีนาคม 2569 9:00\nถึง: Alex <alex@example.org>\nเรื่อง: Garden",
}  # fmt: skip


def quote(lines: tuple[str, ...]) -> str:
    return "\n".join(f"> {line}" for line in lines)


def block(labels: tuple[str, ...], values: tuple[str, ...], mark: str = "") -> str:
    return "\n".join(f"{mark}{label}:{mark} {value}" for label, value in zip(labels, values, strict=True))


def to_html(text: str) -> str:
    return "".join(f"<div>{escape(line) or '<br>'}</div>" for line in text.split("\n"))


def plain_forms(locale: Locale, own: str) -> Iterator[tuple[str, str]]:
    def introduce(form: str) -> str:
        return form.format(name=locale.name, addr=ADDRESS)

    theirs, quoted, sender, me = (
        "\n".join(locale.theirs),
        quote(locale.theirs),
        f"{locale.name} <{ADDRESS}>",
        f"Alex <{ME}>",
    )
    values = (sender, locale.date, me, "Re: 7")
    gmail, apple, thunderbird = map(introduce, (locale.gmail, locale.apple, locale.thunderbird))
    yield "gmail", f"{own}\n\n{gmail}\n\n{quoted}\n>"
    yield "gmail, wrapped", f"{own}\n\n{gmail.replace(f' <{ADDRESS}', f'{chr(10)}<{ADDRESS}')}\n\n{quoted}"
    yield "gmail, unmarked", f"{own}\n\n{gmail}\n\n{theirs}\n\n{locale.name}"
    yield "apple", f"{own}\n\n{locale.iphone}\n\n> {apple}\n> \n{quoted}"
    yield "apple, unmarked introduction", f"{own}\n\n{apple}\n\n{quoted}"
    yield "thunderbird", f"{own}\n\n{thunderbird}\n{quoted}"
    yield "thunderbird, below", f"{thunderbird}\n{quoted}\n\n{own}"
    yield "yahoo", f"{own}\n\n    {introduce(locale.yahoo)} \n \n {theirs}"
    yield "outlook", f"{own}\n\n{block(locale.labels, values)}\n\n{theirs}"
    yield (
        "outlook, telephone",
        (
            f"{own}\n\n{locale.outlook}<https://aka.example/o0>\n{'_' * 32}\n{block(locale.new_labels, values)}\n\n{theirs}"
        ),
    )
    yield "outlook, bold", f"{own}\n\n{block(locale.labels, values, '*')}\n\n{theirs}"
    forwarded = block(locale.forward_labels, ("7", locale.date, sender, me))
    yield "thunderbird, forward", f"{own}\n\n{locale.forward}\n{forwarded}\n\n{theirs}"
    forwarded = block(locale.gmail_labels, (sender, locale.date, "7", me))
    yield "gmail, forward", f"{own}\n\n---------- Forwarded message ---------\n{forwarded}\n\n\n{theirs}"
    original = block(locale.original_labels, (sender, "02.03.26  09:00  (GMT+01:00)", me, "7"))
    yield "samsung", f"{own}\n\n\n{locale.original}\n{original}\n\n{theirs}"
    forwarded = quote((locale.apple_forward, "", *block(locale.new_labels, values).split("\n"), ""))
    yield "apple, forward", f"{own}\n\n{forwarded}\n{quoted}"


def html_forms(locale: Locale, own: str) -> Iterator[tuple[str, str]]:
    theirs, mine, sender = to_html("\n".join(locale.theirs)), to_html(own), escape(f"{locale.name} <{ADDRESS}>")
    gmail, cited = (escape(form.format(name=locale.name, addr=ADDRESS)) for form in (locale.gmail, locale.thunderbird))
    values = (sender, locale.date, ME, "7")
    yield (
        "gmail, html",
        (
            f'{mine}<br><div class="gmail_quote gmail_quote_container"><div class="gmail_attr">{gmail}<br></div>'
            f'<blockquote class="gmail_quote">{theirs}</blockquote></div>'
        ),
    )
    yield (
        "outlook, html",
        (
            f'{mine}<div id="appendonsend"></div><hr><div id="divRplyFwdMsg">'
            f"{block(locale.new_labels, values)}</div><div>{theirs}</div>"
        ),
    )
    yield "word, html", f"{mine}<div><p>{block(locale.labels, values).replace(chr(10), '<br>')}</p></div>{theirs}"
    yield (
        "thunderbird, html",
        (
            f'{mine}<div class="moz-cite-prefix">{cited}<br></div><blockquote type="cite">{theirs}<blockquote type=cite>'
            f"{theirs}</blockquote></blockquote>"
        ),
    )


def make_mails() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    for code, locale in LOCALES.items():
        greeting, first, second = locale.own
        own = f"{greeting}\n\n{first} {second}\n\n{locale.goodbye}"
        introduction = locale.gmail.format(name=locale.name, addr=ADDRESS)
        between = f"{introduction}\n{quote(locale.theirs[:1])}\n\n{first}\n\n{quote(locale.theirs[1:])}\n\n{second}"
        forms = [("plain", name, body, own) for name, body in plain_forms(locale, own)]
        forms += [("html", name, body, own) for name, body in html_forms(locale, own)]
        forms += [("plain", "between quotes", between, f"{first}\n\n{second}")]
        for number, (kind, name, body, text) in enumerate(forms):
            head = f"From: Alex <{ME}>\nTo: {locale.name} <{ADDRESS}>\nSubject: {code} {number}\n"
            head += f"Message-ID: <{code}.{number}@example.org>\nDate: Mon, 02 Mar 2026 10:00:00 +0100\n"
            head += f"Content-Type: text/{kind}; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
            yield f"{code}, {name}", head + body + "\n", text, (*locale.theirs, ADDRESS, locale.name)
