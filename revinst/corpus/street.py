"""Postal addresses, by the forms that some countries write them in: a street with its number, and what follows it.

Each form wants both, and the words of a street with a capital, since prose has numbers and places too.
"""

# ruff: noqa: RUF001  # other scripts are meant
import re

NAME = r"[^\W\d_a-z][\w'’.-]{1,30}"  # with a capital, or in a script that has none
OF = r"(?:(?:d[aeiou]|del|della|dei|des|l[aeo]s?|das|dos|van|von|den?|der|het)\s|[dl]['’])"
NUMBER = (
    r"\d{1,4}(?:\s?[a-zA-Z]\b)?(?:\s?[-–/]\s?\d{1,4}[a-z]?)?(?![\w.,:]\d)\b"
    r"(?!\s?(?:Uhr|[ap]\.?m\b|h\b|EUR|Euro|[€$£%]))"
)
STREETS = {
    # 12 Baker Street, 350 N. Fifth Ave., Apt 4, Springfield, IL 62704
    "english": r"(?!(?:19|20)\d\d\s)\d{1,5}[A-Za-z]?(?:[-–/]\d{1,4})?,?\s"
    rf"(?:[NSEW]{{1,2}}\.?\s)?(?:{NAME}\s){{1,3}}"
    r"(?:(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Terrace|Crescent|Parkway|Pkwy|Highway|Hwy|Grove|"
    r"Mews|Ct|Sq|Pl)\b\.?|(?:Court|Square|Close|Gardens|Row|Way|Place)(?=[,;.)\n]|\Z))"
    r"(?:,?\s(?:Apt|Apartment|Unit|Suite|Ste|Flat|#)\.?\s?\w{1,5}\b)?",
    # Lange Straße 12a, Hauptstr. 5, Kerkstraat 3, Storgatan 8, Am Alten Markt 3
    "germanic": rf"(?:[A-ZÄÖÜ][\w-]{{1,30}}(?:stra(?:ß|ss)e|str\.|weg|gasse|allee|platz|straat|laan|gracht|plein|kade|"
    rf"gatan|gata|gaten|gade|vägen|veien|vegen|vej|katu|tie)|(?:{NAME}\s){{1,2}}(?:Stra(?:ß|ss)e|Str\.|Weg|Gasse|Allee|"
    rf"Platz|Ring|Damm|Ufer)|[A-ZÄÖÜ][\w-]{{1,30}}-(?:Stra(?:ß|ss)e|Str\.|Weg|Gasse|Allee|Platz|Ring|Damm|Ufer)|"
    rf"(?:Am|An der|Im|Unter den|Zum|Zur)\s(?:{NAME}\s)?{NAME}(?=\s\d{{1,3}}[a-z]?,?\s\d{{4,5}}\s{NAME}))\s{NUMBER}",
    # 12 bis, rue de la Paix
    "french": rf"\d{{1,4}}(?:\s?(?:bis|ter))?,?\s(?:rue|avenue|av\.|boulevard|bd\.?|impasse|allée|chemin|quai|"
    rf"place(?=\s(?:d|l))|cours(?=\s(?:d|l))|route(?=\sd))\s(?:{OF}){{0,3}}{NAME}(?:[ -]{NAME}){{0,2}}",
    # Calle Mayor 5, Via Roma 12, Rua das Flores, 20
    "romance": rf"(?:Calle|C/|Avenida|Avda\.|Av\.|Plaza|Paseo|Carrer|Rua|Travessa|Praça|Via|Viale|Piazza|Corso|Vicolo|"
    rf"Strada|Str\.)\s?(?:{OF}){{0,3}}{NAME}(?:\s(?:{OF}){{0,2}}{NAME}){{0,3}},?\s(?:n[º°.]{{1,2}}\s?)?{NUMBER}",
    # ul. Długa 7/3, ул. Ленина, д. 5
    "slavic": r"(?:ul\.|al\.|pl\.|os\.|ulica|ulice|улица|ул\.|пр\.|проспект|пер\.|вул\.|вулиця)\s?"
    rf"(?:{NAME}\s){{0,2}}{NAME},?\s"
    rf"(?:д\.\s?|дом\s|буд\.\s?)?{NUMBER}(?:,\s?(?:кв|m)\.\s?\d{{1,4}})?",
    "japanese": r"〒\s?\d{3}-\d{4}|[\u3040-\u30ff\u4e00-\u9fff]{1,12}[市区町村][\u3040-\u30ff\u4e00-\u9fff]{0,10}"
    r"\d{1,3}(?:丁目|番地?|[-－]\d{1,3})[\d番地号丁目-]{0,10}",
    "chinese": r"[\u4e00-\u9fff]{1,12}[市区县路街道巷]\d{1,5}[号號弄](?:\d{1,4}[室号楼])?",
    "korean": r"[가-힣]{1,6}[시구군]\s(?:[가-힣]{1,8}\s)?[가-힣\d]{1,10}[로길]\s?\d{1,4}",
    "box": r"(?:P\.?\s?O\.?\sBox|Postfach|Boîte postale|Apartado(?: de correos)?)\s\d[\d ]{1,8}\b",
    # The letters that the end of a British one never has keep out 2PM.
    "british code": r"\b[A-Z]{1,2}\d[A-Z\d]?\s\d[ABD-HJLNP-UW-Z]{2}\b",
}  # fmt: skip
TOWN = (
    rf"(?:,?\s{NAME}(?:\s{NAME}){{0,2}},?\s(?:[A-Z]{{2}}\s\d{{5}}(?:-\d{{4}})?|[A-Z]{{1,2}}\d[A-Z\d]?\s\d[A-Z]{{2}})\b|"
    r",?\s[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2}\b|"
    rf"(?:,\s?|\s)(?:[A-Z]{{1,2}}-)?\d{{2}}-?\d{{2,3}}(?:\s?[A-Z]{{2}})?\s{NAME}(?:\s(?:am|an der|im)\s{NAME})?)?"
)
STREET = re.compile(rf"(?<!\w)(?:{'|'.join(f'(?:{form})' for form in STREETS.values())}){TOWN}")
