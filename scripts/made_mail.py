# ruff: noqa: E501  (mails as they are)
"""A mailbox of 60 made e-mails, with every trap that `revinst corpus` must not fall into. Nobody in it exists.

python scripts/made_mail.py mail.mbox
"""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path

ME = "mara@example.org"
OWNER = f"Mara Lindqvist <{ME}>"
START = datetime(2026, 1, 5, 8, 30, tzinfo=UTC)
SIGN_OFF = "\n\nCheers,\nMara"

# What a mail says between greeting and sign-off; (to whom, subject, text).
PLAIN = [
    ("Oskar", "Boiler service on Thursday", "the plumber comes on Thursday between nine and eleven. Could you let him in? The key for the cellar hangs behind the kitchen door, and the meter is on the left wall."),
    ("Priya", "Slides for the spring review", "I went through your slides last night. The story works, but the third chart has no unit and the colours are hard to tell apart. Shall we drop the last two pages and talk about the budget instead?"),
    ("Tomek", "Bread that does not rise", "your starter is too cold, that is all. Put the bowl on top of the fridge over night and wait until the dough has doubled. After that fold it twice and bake it hot with a lid on."),
    ("Lena", "Library books", "both novels are due back next Monday. I finished the one about the lighthouse keeper and liked the second half much more than the first. Take it if you want, I can extend it online."),
    ("Yusuf", "Invoice from the print shop", "the invoice is forty euros higher than the offer. They charged us for folding, which we did ourselves at the kitchen table. Would you call them, or shall I write a friendly note?"),
    ("Oskar", "Train to the coast", "the direct train leaves at seven and takes four hours. If we change once we can sleep longer, but then we miss the small ferry. I am for the early one and a thermos of strong coffee."),
    ("Priya", "New laptop policy", "I read the policy twice and still do not know who pays for repairs. Please ask the lawyers before we sign anything. Until then everybody keeps the old machine."),
    ("Hanna", "Choir rehearsal moved", "the hall is being painted, so we sing in the school this week. Bring a pencil, there are many changes in the second movement. Altos meet half an hour earlier to go over the fugue."),
    ("Tomek", "Cycling on Sunday", "the forecast says wind from the west, so let us ride out against it and come home with it behind us. I have two spare tubes and a pump. Lunch at the old mill, unless they closed it again."),
    ("Lena", "Cat while we are away", "she eats twice a day, a small tin in the morning and dry food at night. Do not believe her when she says she is starving. The vet's card sticks on the fridge, just in case."),
    ("Yusuf", "Draft of the grant text", "the opening paragraph promises three studies and the plan describes two. I would cut the promise. The part on measuring noise in classrooms is the best thing that you have written this year."),
    ("Hanna", "Tomato seedlings", "I have eleven seedlings too many. They are the yellow kind, sweet and rather wild. Come by on Saturday with a box and take what fits on your balcony."),
    ("Oskar", "The squeaking door", "I oiled the hinges and it still squeaks, so it must be the frame. My guess is that the wood swells when it rains. Can you bring the small plane from your workshop?"),
    ("Priya", "Interview on Wednesday", "she is good: calm, curious and honest about what she has never done. I would hire her for the data work and let her grow into the rest. What did the others say?"),
    ("Tomek", "Old camera", "the shutter sticks at slow speeds, which is usually dried grease. There is a man near the station who mends these for little money. Do not open it yourself, the spring jumps out."),
    ("Lena", "Birthday dinner", "let us cook at my place, eight people fit around the table if nobody minds the piano stool. I make the soup and the cake. Could you see to wine and a loud playlist?"),
    ("Yusuf", "Heating bill", "we used a fifth less gas than last winter although it was colder. The new windows seem to pay off sooner than we thought. I put the figures into the shared sheet."),
    ("Hanna", "Lost umbrella", "you left a green umbrella under the chair in my hall. It has been raining for three days and I have been tempted. It waits for you by the door."),
    ("Oskar", "Hiking boots", "get them half a size larger than your shoes and wear them at home for a week. Mine were fine on the flat and terrible downhill until I learned to lace them properly. Thick socks help too."),
    ("Priya", "Numbers for the board", "revenue is up by six per cent, costs by nine, and nobody will like the second figure. I suggest that we show both on one page and explain the move to the new office. Hiding it would be worse."),
    ("Tomek", "Chess on Friday", "I looked at our last game again and I was lost from move twelve on. Your bishop did all the work. Same place, same time, and this time I am playing white."),
    ("Lena", "Swimming course", "the course for beginners starts in April and costs less than I feared. They take twelve children and we are number ten on the list. Shall I sign both of them up?"),
    ("Yusuf", "The broken scanner", "it scans everything with a grey stripe down the middle. I cleaned the glass, turned it off and on, and asked it nicely. Unless you have a better idea we need a new one."),
    ("Hanna", "Piano tuner", "he can come on the ninth or on the sixteenth, always before noon. The last tuning held for almost a year, so there is no hurry. Which day suits the neighbours better?"),
    ("Oskar", "Paint for the hall", "I bought the warm white and not the cold one, it looks less like a hospital. Ten litres should do for two coats. We have to move the shelf first and I can't do that alone."),
    ("Priya", "Workshop in Lisbon", "I can give the morning session on survey design, but not the panel in the evening. Please book the small hotel by the river, the big one had thin walls. I fly home on Sunday."),
    ("Tomek", "Mushrooms", "do not eat the ones with white gills, I mean it. The chanterelles look right and smell of apricots. Bring the rest over and we go through the book together."),
    ("Lena", "School play", "he is the third tree from the left and very proud. The play starts at five, but the good chairs are gone by half past four. I keep two for you with my coat."),
    ("Yusuf", "Comments on chapter two", "the chapter is twenty pages long and has one idea, which is a good one. Say it on the first page. Most of the examples can go into an appendix where I shall enjoy them."),
    ("Hanna", "Compost", "it smells because it is too wet. Mix in cardboard and dry leaves, and turn it once a week with the fork. In May you have the best soil in the street."),
    ("Oskar", "Insurance", "they pay for the bicycle but not for the lock, which makes little sense. I sent them the receipt and a photo of the empty stand. Now we wait for three weeks."),
    ("Priya", "Farewell for the intern", "let us get him the atlas that he keeps borrowing from my desk. Everybody adds two euros and writes one line on the first page. I hide it until Friday."),
    ("Tomek", "Guitar strings", "thin strings are easier on the fingers but they buzz on your guitar. Try a medium set and raise the bridge by a hair. If it still buzzes I come over with a file."),
    ("Lena", "Holiday flat", "the flat on the hill has a view and no parking, the one by the harbour has parking and no view. I vote for the view. We could leave the car at the station and walk up."),
    ("Yusuf", "Backup of the photos", "I copied everything to two disks and left one with my sister. That took a whole evening, mostly because of videos that nobody will ever watch. Please do the same with yours."),
    ("Hanna", "Recipe for lentil soup", "fry the onions slowly, really slowly, then add carrots, cumin and the red lentils. No salt before the end. A spoon of vinegar makes it taste as if you had cooked all day."),
    ("Oskar", "Moving the piano", "four people, two straps and a calm afternoon should be enough. Measure the turn on the stairs before we start, last time we were stuck for an hour. Pizza afterwards is on me."),
    ("Priya", "Quiet hours in the office", "could we try two quiet hours each morning? No calls, no questions, door closed. I get more done before ten than in the rest of the day and I doubt that I am alone."),
]  # fmt: skip
SECRETS = {
    "address": "zebulon.quark@secret.example",
    "phone": "+49 170 5550 1234",
    "url": "https://intranet.secret.example/wiki?id=77",
    "number": "DE44 5001 0517 5407 3249 31",
    "card": "4111 1111 1111 1111",
    "name": "Zebulon",
    "surname": "Quarkington",
}


@dataclass(frozen=True, slots=True)
class Mail:
    """One made mail: its bytes, what ingest should make of it (None: nothing), and the trap that it holds."""

    content: bytes
    text: str | None
    trap: str = ""


def format_date(number: int) -> str:
    """The plain mails one a day, the traps between them."""
    days = number if number < len(PLAIN) else 1.5 * (number - len(PLAIN)) + 0.25
    return format_datetime(START + timedelta(days=days))


def build_mail(number: int, subject: str, body: str | None, **headers: str) -> EmailMessage:
    message = EmailMessage()
    defaults = {
        "From": OWNER,
        "To": "Oskar Meier <oskar@example.net>",
        "Subject": subject,
        "Date": format_date(number),
        "Message-ID": f"<made-{number}@example.org>",
    }
    for name, value in (defaults | {key.replace("_", "-"): value for key, value in headers.items()}).items():
        message[name] = value
    if body is not None:
        message.set_content(body, cte="8bit")
    return message


def build_plain() -> list[Mail]:
    mails = []
    for number, (name, subject, text) in enumerate(PLAIN):
        body = f"Hi {name},\n\n{text}{SIGN_OFF}"
        mails.append(
            Mail(build_mail(number, subject, body, To=f"{name} <{name.lower()}@example.net>").as_bytes(), body)
        )
    return mails


def raw(number: int, subject: str, headers: str, body: bytes) -> bytes:
    """A mail written by hand, for what `EmailMessage` would not write."""
    date = format_date(number)
    head = f"From: {OWNER}\nTo: Oskar Meier <oskar@example.net>\nSubject: {subject}\nDate: {date}\n"
    return f"{head}Message-ID: <made-{number}@example.org>\nMIME-Version: 1.0\n{headers}\n\n".encode() + body


def build_traps() -> list[Mail]:  # noqa: PLR0915
    """22 mails, each with something that is not the owner's text, or that is hard to read."""
    number = len(PLAIN)
    mails: list[Mail] = []

    def add(message: EmailMessage | bytes, text: str | None, trap: str) -> None:
        nonlocal number
        mails.append(Mail(message if isinstance(message, bytes) else message.as_bytes(), text, trap))
        number += 1

    spoof = build_mail(
        number, "Win a prize now", "Send me your bank details please.", From=f'"{ME}" <thief@example.com>'
    )
    add(spoof, None, "my address as somebody's name")
    add(build_mail(number, "Lunch plans", "Soup or salad today?", From="Oskar <oskar@example.net>"), None, "another's")

    own = "Yes, let us take the early train. I buy the tickets tonight."
    reply = (
        f"{own}\n\nOn Mon, 9 Feb 2026 at 10:00, Oskar Meier\n<oskar@example.net> wrote:\n\n> Early or late?\n> Oskar"
    )
    add(
        build_mail(number, "Re: Train to the coast", reply, In_Reply_To="<made-5@example.org>"),
        own,
        "wrapped attribution",
    )

    german = "Das passt mir gut, ich bringe den Kuchen mit und Lena die Getränke."
    quoted = f"{german}\n\nAm 10. Februar 2026 um 09:12 schrieb Hanna <hanna@example.net>:\n> Kommt ihr am Samstag?"
    add(
        build_mail(number, "Re: Samstag im Garten", quoted, References="<garden@example.net>"),
        german,
        "German attribution",
    )

    french = "Merci pour la photo, elle est déjà sur le mur de la cuisine."
    quoted = f"{french}\n\nLe 11 févr. 2026 à 18:03, Lena <lena@example.net> a écrit :\n> Voici la photo."
    add(build_mail(number, "Re: La photo du chat", quoted), french, "French attribution")

    first, second = "The blue one is mine.", "No, I never saw the red one before."
    answers = (
        f"On 2026-02-12 12:00, Tomek wrote:\n> Whose is the blue bicycle?\n\n{first}\n\n> And the red one?\n\n{second}"
    )
    add(build_mail(number, "Re: Bicycles in the yard", answers), f"{first}\n\n{second}", "interleaved answers")

    own = "Please see below, I think that we should accept the offer before Friday."
    block = "From: Yusuf Demir <yusuf@example.net>\nSent: Thursday, 12 February 2026 09:00\nTo: Mara\nSubject: Offer\n\nDear Mara,\nhere is the offer."
    add(
        build_mail(number, "FW: Offer of the roofer", f"{own}\n\n________________________________\n{block}"),
        own,
        "Outlook header block",
    )

    own = "This is the recipe that I told you about, with far too much butter."
    forward = f"{own}\n\n---------- Forwarded message ---------\nFrom: Hanna <hanna@example.net>\nDate: Fri, 13 Feb 2026\nSubject: Cake\nTo: Mara\n\nTake 500 g of butter."
    add(build_mail(number, "Fwd: Cake with butter", forward), own, "forward with a comment")
    bare = "---------- Forwarded message ---------\nFrom: Hanna <hanna@example.net>\nDate: Fri, 13 Feb 2026\nSubject: Menu\nTo: Mara\n\nSoup, fish, cake."
    add(build_mail(number, "Fwd: Menu for the party", bare), None, "bare forward")

    own = "The report is done, only the table of contents is missing."
    signed = f"{own}\n\n-- \nMara Lindqvist\nHead of Surveys\nPhone: +49 30 5550 9876"
    add(build_mail(number, "Report on the survey", signed), own, "signature")
    own = "On my way, ten minutes late because of the snow on the bridge."
    add(build_mail(number, "Running late today", f"{own}\n\nSent from my iPhone"), own, "device line")
    away = build_mail(number, "Automatic reply: Budget", "I am out until Monday.", Auto_Submitted="auto-replied")
    add(away, None, "automatic reply")

    own = "I would keep the garden small: two beds, one tree and a bench in the shade."
    both = build_mail(number, "Plans for the garden", own)
    both.add_alternative(f"<html><body><p>{own}</p></body></html>", subtype="html")
    add(both, own, "multipart/alternative")

    own = "The museum opens at ten and the queue is shortest on Tuesdays."
    page = f"<html><head><style>p {{color: red}}</style></head><body><p>{own}</p><div class='gmail_quote'><div class='gmail_attr'>On Sat, Lena wrote:</div><blockquote>When does it open?</blockquote></div></body></html>"
    html = build_mail(number, "Re: Museum on Tuesday", None)
    html.set_content(page, subtype="html")
    add(html, own, "HTML only, with a quote")

    own = "Here are the minutes, please correct what I got wrong about the roof."
    attached = build_mail(number, "Minutes of the meeting", own)
    attached.add_attachment(b"SECRET ATTACHMENT " * 20, maintype="text", subtype="plain", filename="minutes.txt")
    add(attached, own, "attachment")
    scan = build_mail(number, "Scan of the contract", None)
    scan.add_attachment(b"%PDF-1.4", maintype="application", subtype="pdf", filename="scan.pdf")
    add(scan, None, "only an attachment")

    own = "Der Käse aus Österreich schmeckt großartig, bitte bring noch ein Stück mit."
    kind = "Content-Type: text/plain; charset={}\nContent-Transfer-Encoding: {}"
    add(raw(number, "Cheese", kind.format("iso-8859-1", "8bit"), own.encode("latin-1")), own, "latin-1")
    own = "It costs 20 € and he said “never again”, which I find hard to believe."
    add(
        raw(number, "Price of the repair", kind.format("iso-8859-1", "8bit"), own.encode("cp1252")),
        own,
        "cp1252 named latin-1",
    )
    own = "Grüße aus dem Süden, das Wetter ist überraschend kühl und wir lesen viel."
    encoded = build_mail(number, "Postcard", None)
    encoded.set_content(own, cte="base64")
    add(encoded, own, "base64")
    own = "Naïve question: could the café open an hour earlier during the fair week?"
    printable = build_mail(number, "Café during the fair", None)
    printable.set_content(own, cte="quoted-printable")
    add(printable, own, "quoted-printable")
    flowed = b"This is one long sentence that the mail \nprogram has wrapped at seventy \ncharacters or so.\n\n> Did it arrive \n> in one piece?"
    own = "This is one long sentence that the mail program has wrapped at seventy characters or so."
    add(
        raw(number, "Re: Wrapped lines", 'Content-Type: text/plain; charset="utf-8"; format=flowed', flowed),
        own,
        "format=flowed",
    )

    own = f"Hi {SECRETS['name']},\n\nyour new number {SECRETS['phone']} works. I wrote to {SECRETS['address']} and put the notes on {SECRETS['url']} for you. Please transfer the rent to {SECRETS['number']} and not to the card {SECRETS['card']}.{SIGN_OFF}"
    secret = f"{SECRETS['name']} {SECRETS['surname']} <{SECRETS['address']}>"
    add(build_mail(number, "Your new number", own, To=secret), own, "secrets")
    return mails


def build_mails() -> list[Mail]:
    return build_plain() + build_traps()


def write_mbox(path: Path) -> list[Mail]:
    """Writes all to one mbox file, with `From ` in a body quoted as mail programs do it."""
    mails = build_mails()
    with path.open("wb") as file:
        for mail in mails:
            body = mail.content.replace(b"\nFrom ", b"\n>From ")
            file.write(b"From mara@example.org Mon Jan  5 08:30:00 2026\n" + body.rstrip(b"\n") + b"\n\n")
    return mails


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "mail.mbox")
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"{len(write_mbox(path))} made mails in {path}")
