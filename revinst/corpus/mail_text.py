"""The text of a mail out of its MIME parts, by the standard library's `email`: HTML, charsets, `format=flowed`."""

import codecs
import re
from email.message import Message

# What mail programs write around quotes and signatures. Introductions, marks of forwards and Outlook's header blocks
# stay, to be judged as in plain text.
HTML_DROPPED = (
    "//style | //script | //head | //*[contains(@class, 'gmail_signature')] | //*[contains(@class, 'moz-signature')] | "
    "//*[contains(@class, 'protonmail_signature')] | //*[@id='Signature'] | "
    "//*[contains(@class, 'moz-forward-container')] | //*[contains(@id, 'divRplyFwdMsg')] | "
    "//*[contains(@id, 'appendonsend')] | "
    "//*[@id='OLK_SRC_BODY_SECTION'] | //*[contains(@class, 'OutlookMessageHeader')] | "
    "//*[@id='mail-editor-reference-message-container'] | "
    "//*[contains(@class, 'gmail_attr')][following-sibling::*[1][self::blockquote]] | "
    "//*[contains(@class, 'moz-cite-prefix')][following-sibling::*[1][self::blockquote]]"
)
HTML_ENDS = "//*[contains(@id, 'divRplyFwdMsg')] | //*[contains(@id, 'appendonsend')] | //hr[@id='stopSpelling']"
HTML_QUOTES = (
    "//blockquote | //*[contains(@class, 'yahoo_quoted')] | //*[contains(@class, 'protonmail_quote')] | "
    "//*[contains(@class, 'zmail_extra')] | //*[contains(@class, 'tutanota_quote')]"
)
RULE_LINE = "_" * 10  # in place of <hr>
INDENT = re.compile(r"margin:\s*0(?:px)? 0(?:px)? 0(?:px)? 40px")  # Gmail's for one's own text
# What a charset's name means in mails: the larger sets that programs write under the smaller one's name.
MEANT = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso-8859-8-i": "iso-8859-8",
    "windows-874": "cp874",
}
WESTERN = ("utf-8", "cp1252")  # utf-8 first: what is valid in it is hardly ever anything else
MAX_TEXT = 1_000_000  # characters that are read; nobody writes as much, what is below is quoted
CARRIED = re.compile(r"data:[\w/.+-]{1,100};base64,[A-Za-z0-9+/=\s%]*")  # a picture inside a page
NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape"}  # Python's own codecs, which no mail is in


def text_of(part: Message) -> str | None:
    """The text that a reader is shown first, without attachments; None where there is none.

    multipart/alternative gives one of its forms: the plain one, unless it is empty.
    """
    kind = part.get_content_type()
    is_attached = part.get_content_disposition() == "attachment" or (part.get_filename() and not part.is_multipart())
    if is_attached or kind == "message/rfc822":
        return None
    if part.is_multipart():
        return text_of_parts(part, alternative=kind == "multipart/alternative")
    if kind == "text/html":
        return html_to_text(CARRIED.sub("", decode_payload(part))[:MAX_TEXT])
    if kind != "text/plain":
        return None
    text = decode_payload(part)[:MAX_TEXT]
    if str(part.get_param("format", "")).lower() == "flowed":
        return join_flowed(text, delete_space=str(part.get_param("delsp", "")).lower() == "yes")
    return text


def text_of_parts(whole: Message, alternative: bool) -> str | None:
    parts = [part for part in whole.get_payload() if isinstance(part, Message)]
    texts = [(part.get_content_type(), text_of(part)) for part in parts]
    found = [(kind, text) for kind, text in texts if text is not None]
    if not found:
        return None
    if alternative:
        return next((text for kind, text in found if kind == "text/plain" and text.strip()), found[-1][1])
    return "\n\n".join(text for _, text in found)


def decode_payload(part: Message) -> str:
    """Bytes to text by the charset that the part names, or by what fits where it names none or a wrong one."""
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    named = (part.get_content_charset() or "utf-8").lower()
    try:
        named = codecs.lookup(MEANT.get(named, named)).name
    except (LookupError, ValueError):
        named = "utf-8"
    if named in NO_CHARSETS:
        named = "utf-8"
    # Programs write cp1252 and call it latin-1 or ASCII (as every browser assumes), and UTF-8 as any of them.
    is_western = named in ("iso8859-1", "ascii", "cp1252")
    for charset in WESTERN if is_western else (MEANT.get(named, named), *WESTERN):
        try:
            return content.decode(charset).replace("\r\n", "\n").lstrip("\ufeff")
        except (ValueError, LookupError):  # LookupError: base64 and the like, which decode to no text
            continue
    return content.decode("latin-1")


def html_to_text(html: str) -> str:
    """Visible text of an HTML mail, a line `> ...` in place of each quote."""
    import lxml.html
    from inscriptis import Inscriptis

    if not html.strip():
        return ""
    try:
        parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)  # newsletters lie deeper than 256 elements
        tree = lxml.html.document_fromstring(html.encode(), parser=parser)
    except (lxml.etree.ParserError, ValueError):  # nothing but comments
        return ""
    for element in tree.xpath(HTML_ENDS):
        for below in list(element.itersiblings()):
            element.getparent().remove(below)  # with the text behind it
        element.tail = None
    for element in tree.xpath(HTML_DROPPED):
        if element.getparent() is not None:
            element.drop_tree()
    for element in tree.xpath("//hr"):
        element.tag, element.text = "p", RULE_LINE
    for element in tree.xpath(HTML_QUOTES):
        if not INDENT.search(element.get("style", "")) or element.get("class") or element.get("type"):
            element.clear(keep_tail=True)
            element.tag, element.text = "p", "> ..."
    lines = Inscriptis(tree).get_text().split("\n")
    return "\n".join(line.strip() for line in lines)  # it indents by the page's layout


def join_flowed(text: str, delete_space: bool = False) -> str:
    """Paragraphs of `format=flowed` on one line each (RFC 3676, https://www.rfc-editor.org/rfc/rfc3676#section-4).

    A line that ends in a space goes on in the next of the same quote depth; `-- ` does not.
    """
    joined: list[list[str]] = []  # the pieces of each line
    open_depth: int | None = None
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip(">"))
        content = line[depth:].removeprefix(" ")
        flows = content.endswith(" ") and content != "-- "
        kept = content[:-1] if flows and delete_space else content
        if open_depth == depth and content != "-- ":
            joined[-1].append(kept)
        else:
            joined.append([">" * depth + " " if depth else "", kept])
        open_depth = depth if flows else None
    return "\n".join(map("".join, joined))
