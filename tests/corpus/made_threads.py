# ruff: noqa: E501, RUF001  (mails as they are)
"""Answers to others in ten languages, as mail programs write them, with sentences of others planted in what they quote.

All is invented. `make_answers` gives (name of the case, the mail, what I wrote in it, what others wrote).
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

ME, THEIR_ADDRESS, THIRD_ADDRESS = "alex@example.org", "kim@example.com", "noor@example.net"


@dataclass(frozen=True)
class Language:
    """own, theirs: sentences. introduction: with {who}. labels: of sender, date, receiver, subject in a header block."""

    greeting: str
    own: tuple[str, ...]
    theirs: tuple[str, ...]
    goodbye: str
    kim: str
    introduction: str
    labels: tuple[str, str, str, str]
    date: str
    forward: str
    device: str


LANGUAGES = {
    "en": Language(
        "Hi Kim,",
        ("Saturday suits me.", "I will bring both ladders.", "The pears are nearly ripe.", "Let us start at nine."),
        ("My knee has hurt since Monday.", "The doctor wants to see me again.", "My sister lost her job.", "Do you have the old key?"),
        "See you", "Kim Ode", "On Mon, 2 Mar 2026 at 09:00, {who} wrote:", ("From", "Sent", "To", "Subject"),
        "Monday, March 2, 2026 9:00 AM", "---------- Forwarded message ---------", "Sent from my iPhone"),
    "de": Language(
        "Liebe Kim,",
        ("Samstag passt mir gut.", "Ich bringe beide Leitern mit.", "Die Birnen sind fast reif.", "Fangen wir um neun an."),
        ("Mein Knie tut seit Montag weh.", "Der Arzt will mich noch einmal sehen.", "Meine Schwester hat ihre Stelle verloren.", "Hast du den alten Schlüssel?"),
        "Viele Grüße", "Kim Öde", "Am Mo., 2. März 2026 um 09:00 Uhr schrieb {who}:", ("Von", "Gesendet", "An", "Betreff"),
        "Montag, 2. März 2026 09:00", "-------- Weitergeleitete Nachricht --------", "Von meinem iPhone gesendet"),
    "fr": Language(
        "Bonjour Kim,",
        ("Samedi me convient.", "J'apporterai les deux échelles.", "Les poires sont presque mûres.", "Commençons à neuf heures."),
        ("J'ai mal au genou depuis lundi.", "Le médecin veut me revoir.", "Ma sœur a perdu son emploi.", "As-tu encore la vieille clé ?"),
        "À bientôt", "Kim Odé", "Le lun. 2 mars 2026 à 09:00, {who} a écrit :", ("De", "Envoyé", "À", "Objet"),
        "lundi 2 mars 2026 09:00", "-------- Message transféré --------", "Envoyé de mon iPhone"),
    "es": Language(
        "Hola Kim:",
        ("El sábado me viene bien.", "Llevaré las dos escaleras.", "Las peras están casi maduras.", "Empecemos a las nueve."),
        ("Me duele la rodilla desde el lunes.", "El médico quiere verme otra vez.", "Mi hermana perdió su trabajo.", "¿Tienes la llave vieja?"),
        "Un abrazo", "Kim Odé", "El lun, 2 mar 2026 a las 9:00, {who} escribió:", ("De", "Enviado", "Para", "Asunto"),
        "lunes, 2 de marzo de 2026 9:00", "---------- Mensaje reenviado ---------", "Enviado desde mi iPhone"),
    "it": Language(
        "Ciao Kim,",
        ("Sabato mi va bene.", "Porterò le due scale.", "Le pere sono quasi mature.", "Cominciamo alle nove."),
        ("Mi fa male il ginocchio da lunedì.", "Il medico vuole rivedermi.", "Mia sorella ha perso il lavoro.", "Hai ancora la vecchia chiave?"),
        "A presto", "Kim Odè", "Il giorno lun 2 mar 2026 alle ore 09:00 {who} ha scritto:", ("Da", "Inviato", "A", "Oggetto"),
        "lunedì 2 marzo 2026 09:00", "-------- Messaggio Inoltrato --------", "Inviato da iPhone"),
    "nl": Language(
        "Dag Kim,",
        ("Zaterdag komt mij goed uit.", "Ik neem beide ladders mee.", "De peren zijn bijna rijp.", "Laten we om negen uur beginnen."),
        ("Mijn knie doet sinds maandag pijn.", "De dokter wil me nog eens zien.", "Mijn zus is haar baan kwijt.", "Heb jij de oude sleutel?"),
        "Groeten", "Kim Ode", "Op ma 2 mrt 2026 om 09:00 schreef {who}:", ("Van", "Verzonden", "Aan", "Onderwerp"),
        "maandag 2 maart 2026 09:00", "-------- Doorgestuurd bericht --------", "Verstuurd vanaf mijn iPhone"),
    "pl": Language(
        "Cześć Kim,",
        ("Sobota mi pasuje.", "Przyniosę obie drabiny.", "Gruszki są prawie dojrzałe.", "Zacznijmy o dziewiątej."),
        ("Kolano boli mnie od poniedziałku.", "Lekarz chce mnie znowu zobaczyć.", "Moja siostra straciła pracę.", "Czy masz stary klucz?"),
        "Pozdrawiam", "Kim Odowa", "pon., 2 mar 2026 o 09:00 {who} napisał(a):", ("Od", "Wysłano", "Do", "Temat"),
        "poniedziałek, 2 marca 2026 09:00", "-------- Treść przekazanej wiadomości --------", "Wysłane z iPhone’a"),
    "ru": Language(
        "Привет, Ким!",
        ("Суббота мне подходит.", "Я принесу обе лестницы.", "Груши почти созрели.", "Начнём в девять."),
        ("У меня с понедельника болит колено.", "Врач хочет видеть меня ещё раз.", "Моя сестра потеряла работу.", "У тебя есть старый ключ?"),
        "До встречи", "Ким Одэ", "пн, 2 мар. 2026 г. в 09:00, {who}:", ("От", "Отправлено", "Кому", "Тема"),
        "2 марта 2026 г. 9:00", "-------- Перенаправленное сообщение --------", "Отправлено с iPhone"),
    "tr": Language(
        "Merhaba Kim,",
        ("Cumartesi bana uyar.", "İki merdiveni de getiririm.", "Armutlar neredeyse oldu.", "Dokuzda başlayalım."),
        ("Pazartesiden beri dizim ağrıyor.", "Doktor beni yine görmek istiyor.", "Kız kardeşim işini kaybetti.", "Eski anahtar sende mi?"),
        "Görüşürüz", "Kim Öde", "{who}, 2 Mar 2026 Pzt, 09:00 tarihinde şunu yazdı:", ("Kimden", "Gönderildi", "Kime", "Konu"),
        "2 Mart 2026 Pazartesi 09:00", "-------- İletilen İleti --------", "iPhone’umdan gönderildi"),
    "ja": Language(
        "キムさん",
        ("土曜日で大丈夫です。", "はしごを二つ持って行きます。", "梨がもうすぐ熟します。", "九時に始めましょう。"),
        ("月曜日から膝が痛いです。", "医者がもう一度来るようにと言いました。", "妹が仕事を失いました。", "古い鍵を持っていますか。"),
        "よろしくお願いします", "大出 キム", "2026年3月2日(月) 9:00 {who}:", ("差出人", "送信日時", "宛先", "件名"),
        "2026年3月2日 9:00", "-------- 転送されたメッセージ --------", "iPhoneから送信"),
}  # fmt: skip
FORMS = ("above quotes", "below quotes", "between quotes", "unmarked", "block", "block of names", "forward", "quoted forward",
         "html", "html block")  # fmt: skip


def make_answers(seed: int) -> Iterator[tuple[str, str, str, list[str]]]:
    """One of each language and form."""
    for code, language in LANGUAGES.items():
        for form in FORMS:
            chance = random.Random(f"{seed} {code} {form}")
            own = chance.sample(language.own, 3)
            theirs = chance.sample(language.theirs, 3)
            body, text = FORM[form](language, own, theirs, chance)
            kind = "html" if form.startswith("html") else "plain"
            head = f"From: Alex Moreau <{ME}>\nTo: {language.kim} <{THEIR_ADDRESS}>\nSubject: Garden {seed} {code} {form}\n"
            head += f"Message-ID: <{seed}.{code}.{form.replace(chr(32), chr(46))}@example.org>\nDate: Mon, 02 Mar 2026 10:00:00 +0100\n"
            head += f"Content-Type: text/{kind}; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
            yield f"{code}, {form}", head + body, text, [*theirs, THEIR_ADDRESS, THIRD_ADDRESS, language.kim]


def top(language: Language, own: list[str], chance: random.Random) -> tuple[str, str]:
    """What I wrote, with or without what the program puts below it; and that without."""
    text = f"{language.greeting}\n\n{' '.join(own)}\n\n{language.goodbye}\nAlex"
    below = chance.choice(("", f"\n\n{language.device}", "\n\n-- \nAlex Moreau\nExample Gardens\n+49 30 555 0101"))
    return text + below, text


def introduce(language: Language, chance: random.Random) -> str:
    who = f"{language.kim} <{THEIR_ADDRESS}>"
    return language.introduction.format(who=chance.choice((who, who.replace("<", "<\n"), who.replace(">", "\n>"))))


def quote(lines: list[str]) -> str:
    return "\n".join(f"> {line}" for line in lines)


def above_quotes(language: Language, own: list[str], theirs: list[str], chance: random.Random) -> tuple[str, str]:
    written, text = top(language, own, chance)
    return f"{written}\n\n{introduce(language, chance)}\n\n{quote(theirs)}\n>> {theirs[0]}\n", text


def below_quotes(language: Language, own: list[str], theirs: list[str], chance: random.Random) -> tuple[str, str]:
    written, text = top(language, own, chance)
    return f"{introduce(language, chance)}\n{quote(theirs)}\n\n{written}\n", text


def between_quotes(language: Language, own: list[str], theirs: list[str], chance: random.Random) -> tuple[str, str]:
    pairs = "\n\n".join(f"> {each}\n\n{mine}" for each, mine in zip(theirs, own, strict=True))
    return f"{introduce(language, chance)}\n{pairs}\n", "\n\n".join(own)


def unmarked(language: Language, own: list[str], theirs: list[str], chance: random.Random) -> tuple[str, str]:
    written, text = top(language, own, chance)
    return (
        f"{written}\n\n{introduce(language, chance)}\n\n{' '.join(theirs)}\n\n{language.goodbye}\n{language.kim}\n",
        text,
    )


def header_block(language: Language, has_address: bool, chance: random.Random) -> list[str]:
    sender, date, receiver, subject = language.labels
    to = f"Alex Moreau <{ME}>" if has_address else "Alex Moreau"
    lines = [
        f"{sender}: {language.kim} <{THEIR_ADDRESS}>",
        f"{date}: {language.date}",
        f"{receiver}: {to}",
        f"Cc: Noor <{THIRD_ADDRESS}>",
    ]
    return [*lines[: chance.choice((3, 4))], f"{subject}: Garden"]


def block(language: Language, own: list[str], theirs: list[str], chance: random.Random) -> tuple[str, str]:
    written, text = top(language, own, chance)
    rule = chance.choice(("", f"{'_' * 32}\n"))
    return f"{written}\n\n{rule}" + "\n".join(header_block(language, True, chance)) + f"\n\n{' '.join(theirs)}\n", text


def block_of_names(language: Language, own: list[str], theirs: list[str], chance: random.Random) -> tuple[str, str]:
    written, text = top(language, own, chance)
    lines = [line.replace(f" <{THEIR_ADDRESS}>", "") for line in header_block(language, False, chance)]
    return f"{written}\n\n" + "\n".join(lines) + f"\n\n{' '.join(theirs)}\n", text


def forward(language: Language, own: list[str], theirs: list[str], chance: random.Random) -> tuple[str, str]:
    written, text = top(language, own, chance)
    lines = header_block(language, True, chance)
    chance.shuffle(lines)
    return f"{written}\n\n{language.forward}\n" + "\n".join(lines) + f"\n\n{' '.join(theirs)}\n", text


def quoted_forward(language: Language, own: list[str], theirs: list[str], chance: random.Random) -> tuple[str, str]:
    written, text = top(language, own, chance)
    return f"{quote([*header_block(language, True, chance), '', *theirs])}\n\n{written}\n", text


def html(language: Language, own: list[str], theirs: list[str], chance: random.Random) -> tuple[str, str]:
    who = f"{language.kim} &lt;<a href='mailto:{THEIR_ADDRESS}'>{THEIR_ADDRESS}</a>&gt;"
    introduction = language.introduction.format(who=who)
    quoted = chance.choice(
        ('<div class="gmail_quote">', '<div class="yahoo_quoted">', '<div class="protonmail_quote">')
    )
    text = f"{language.greeting}\n\n{' '.join(own)}"
    shown = "".join(f"<div>{line or '<br>'}</div>" for line in text.split("\n"))
    return f"{shown}<br>{quoted}<div>{introduction}<br></div><blockquote>{'<br>'.join(theirs)}</blockquote></div>", text


def html_block(language: Language, own: list[str], theirs: list[str], chance: random.Random) -> tuple[str, str]:
    text = f"{language.greeting}\n\n{' '.join(own)}"
    shown = "".join(f"<p>{line}</p>" for line in text.split("\n") if line)
    fields = (line.split(": ", 1) for line in header_block(language, True, chance))
    block = "<br>".join(f"<b>{name}:</b> {value.replace('<', '&lt;').replace('>', '&gt;')}" for name, value in fields)
    above = chance.choice(("<hr>", "", '<div style="border-top:solid #E1E1E1 1.0pt"></div>'))
    return f"{shown}{above}<p>{block}</p><p>{'</p><p>'.join(theirs)}</p>", text


FORM = {
    "above quotes": above_quotes, "below quotes": below_quotes, "between quotes": between_quotes, "unmarked": unmarked,
    "block": block, "block of names": block_of_names, "forward": forward, "quoted forward": quoted_forward,
    "html": html, "html block": html_block,
}  # fmt: skip
