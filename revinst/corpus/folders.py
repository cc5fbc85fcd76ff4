# ruff: noqa: E501, RUF001  (lists; other scripts)
"""What the mails in a folder or under a label are: drafts, deleted, spam or chats, by its name as programs write it."""

import base64
import re
import unicodedata

NAMES = {  # between commas, in lower case
    "a draft": """
        draft, drafts, templates, unsent, unsent messages, entwurf, entwürfe, vorlagen, brouillon, brouillons, modèles,
        borrador, borradores, bozza, bozze, rascunho, rascunhos, concepten, utkast, kladder, udkast, drög, luonnokset,
        szkice, robocze, wersje robocze, kopie robocze, koncepty, rozepsané, piszkozatok, taslaklar, черновики, чернетки,
        чернови, schițe, ciorne, πρόχειρα, osnutki, skice, nacrti, mustandid, melnraksti, juodraščiai, esborranys,
        draf, konsep, thư nháp, bản nháp, 下書き, 草稿, 草稿箱, 草稿匣, 임시보관함, 임시 보관함, טיוטות, المسودات, مسودات,
        پیش‌نویس‌ها, ร่างจดหมาย, ฉบับร่าง, ड्राफ़्ट, ड्राफ्ट
    """,
    "deleted": """
        trash, deleted, deleted items, deleted messages, bin, papierkorb, gelöscht, gelöschte elemente, gelöschte objekte,
        gelöschte nachrichten, corbeille, poubelle, éléments supprimés, messages supprimés, papelera, elementos eliminados,
        eliminados, cestino, posta eliminata, elementi eliminati, lixeira, itens excluídos, itens eliminados, prullenbak,
        verwijderde items, papperskorgen, borttaget, borttagna objekt, papirkurv, papirkurven, slettet post,
        slettede elementer, ruslið, roskakori, poistetut, kosz, usunięte, elementy usunięte, koš, odstraněná pošta, kôš,
        odstránené položky, kuka, papírkosár, lomtár, törölt elemek, çöp, çöp kutusu, silinmiş öğeler, корзина, удаленные,
        удалённые, кошик, видалені, кошче, изтрити елементи, смеће, smeće, obrisano, izbrisano, izbrisane stavke, smetnjak,
        koš za smeti, coș de gunoi, elemente șterse, κάδος, κάδος απορριμμάτων, διαγραμμένα, prügikast, atkritne,
        miskaste, šiukšlinė, šiukšliadėžė, paperera, sampah, thùng rác, ゴミ箱, 削除済みアイテム, 垃圾箱, 已删除, 已删除邮件, 已刪除, 已刪除郵件,
        刪除的郵件, 回收站, 휴지통, 지운 편지함, 삭제된 항목, 삭제된 메시지, אשפה, פריטים שנמחקו, المهملات, المحذوفات, سطل زباله,
        ถังขยะ, ट्रैश
    """,
    "spam": """
        spam, junk, bulk, bulk mail, junk-e-mail, junk e-mail, junk email, spamverdacht, unerwünscht, pourriel,
        indésirables, courrier indésirable, correo no deseado, correo basura, indesiderata, posta indesiderata, lixo,
        lixo eletrônico, lixo eletrónico, ongewenst, ongewenste e-mail, ongewenste reclame, skräppost, søppel, søppelpost,
        uønsket e-post, uønsket mail, ruslpóstur, roskaposti, niechciane, wiadomości-śmieci, nevyžádaná,
        nevyžádaná pošta, nevyžiadaná pošta, levélszemét, önemsiz, gereksiz, istenmeyen, спам, нежелательная почта,
        небажана пошта, нежелана пошта, neželjena pošta, neželena pošta, mesaje nedorite, ανεπιθύμητα,
        ανεπιθύμητη αλληλογραφία, rämpspost, mēstules, šlamštas, correu brossa, thư rác, 迷惑メール, スパム, 垃圾邮件, 垃圾郵件, 垃圾電郵,
        스팸, 스팸함, 정크 메일, ספאם, דואר זבל, بريد عشوائي, البريد العشوائي, غير مرغوب فيه, هرزنامه, จดหมายขยะ, สแปม, स्पैम
    """,
    "a chat": "chat, chats",
}  # fmt: skip
KINDS = {" ".join(name.split()): kind for kind, names in NAMES.items() for name in names.split(",")}
UTF7 = re.compile(r"&([A-Za-z0-9+,]{0,400})-")


def kind_of_folder(where: str) -> str:
    """`takeout/Mail/Spam.mbox#3` -> `spam`; "" for a folder like any other."""
    for part in re.split(r"[/.]", where.partition("#")[0]):
        if kind := kind_of_label(decode_name(part).strip("[] ")):
            return kind
    return ""


def kind_of_label(label: str) -> str:
    """By its whole name: what begins like one may be somebody's own."""
    return KINDS.get(" ".join(unicodedata.normalize("NFC", label).lower().split()), "")


def decode_name(name: str) -> str:
    """A folder's name as IMAP servers write it in a Maildir (RFC 3501, 5.1.3): `Entw&APw-rfe` -> `Entwürfe`."""

    def decode(found: re.Match[str]) -> str:
        try:
            content = base64.b64decode(found[1].replace(",", "/") + "=" * (-len(found[1]) % 4))
            return content.decode("utf-16-be") or "&"
        except ValueError:  # no such name
            return found[0]

    return UTF7.sub(decode, name)
