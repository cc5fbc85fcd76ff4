"""What is written where there is nothing to write: "N/A", "<noinput>", "-", "No context provided.", "kein", "无"."""

# ruff: noqa: RUF001  # other scripts are meant
import re

from revinst.data.words import normalise, split_words

# In English, German, French, Spanish, Portuguese, Italian, Dutch, Scandinavian and Slavic languages a placeholder is
# a short sentence of such words alone, at least one of them a denial.
DENIALS = """
    no non none not nothing null nil nan na nill empty blank void missing without unspecified undefined unavailable
    noinput nooutput nocontext inapplicable unknown tbd
    kein keine keiner keines keinen ohne leer nicht nichts entfällt fehlt
    aucun aucune sans rien vide néant pas
    ningún ninguno ninguna sin nada vacío vacio nulo nula
    nenhum nenhuma sem vazio não nao
    nessun nessuno nessuna senza niente nulla vuoto
    geen leeg niets niet zonder nvt
    ingen inget intet inga saknas mangler ikke inte utan uten uden
    brak nie puste pusty nic žádný žádná není prázdné
    нет отсутствует отсутствуют пусто пустой без не немає відсутній
    yok boş nincs tühi puudub fără niciun κανένα няма нема nėra nema tiada hakuna
"""
FILLING = """
    a an any the this that there is was are were be has have for to of in it additional further extra more other special
    specific particular background context contexts input inputs text texts passage information info data document
    documents content question task instruction prompt request article paragraph
    provided given needed require requires s
    required necessary applicable available supplied specified included present found used relevant here applied apply
    does do
    kontext eingabe angabe angaben text daten weitere weiterer weiteren zusätzlicher zusätzliche vorhanden angegeben
    gegeben nötig erforderlich notwendig verfügbar zutreffend anwendbar
    contexte entrée texte donnée données information fourni fournie requis requise nécessaire disponible objet
    supplémentaire n de d est
    contexto entrada texto datos dados información informação se aplica aplicable aplicável disponível necesario
    necesaria necessário necessária proporcionado proporcionada fornecido fornecida adicional hay há requiere
    contesto ingresso testo dati informazioni fornito fornita richiesto richiesta disponibile applicabile aggiuntivo
    van toepassing invoer tekst gegevens nodig beschikbaar opgegeven
    indata inmatning kontekst data tillgänglig tilgængelig tilgjengelig
    kontekstu danych dotyczy wejścia
    контекста контекст данных ввода текста применимо требуется указано доступно
"""
# Abbreviations, and scripts in which words are not told apart by spaces.
WHOLE = """
    n a|n a n a|n d|n v t|k a|s o|n c|n i|nd|ка|н д|н а|não há|tidak ada|không có|không|nincs adat|ei mitään|ei ole|yok
    无|無|没有|沒有|空|空白|暂无|暫無|不适用|不適用|无输入|無輸入|无上下文|没有输入|没有上下文|无需输入|无额外输入|不需要|未提供|缺失
    なし|無し|ない|該当なし|入力なし|特になし|ありません|コンテキストなし|文脈なし|空欄
    없음|해당 없음|입력 없음|없습니다|공백|لا يوجد|لا شيء|غير متوفر|غير متاح|فارغ|אין|ריק|לא רלוונטי
    لا ينطبق|ندارد|کوئی نہیں
    कोई नहीं|लागू नहीं|कुछ नहीं|ไม่มี|ไม่มีข้อมูล|কিছুই না|নেই|இல்லை|లేదు|không áp dụng|δεν υπάρχει|tidak tersedia|nuk ka
"""
NOT_ALONE = frozenset(["not", "sin", "void", "sans", "sem", "pas", "nie", "nic"])  # these are somebody's text as well
MAX_WORDS = 12
# Dashes, dots, slashes, empty brackets and quotes; not signs that somebody may ask about, such as != or an emoji.
STROKES = re.compile(r"[\s\-‐-―−_.…·/\\|()\[\]{}<>\"'“”‘’「」（）【】。•]+")
denials = frozenset(split_words(DENIALS))
words_of_placeholders = denials | frozenset(split_words(FILLING))
phrases = frozenset(normalise(phrase) for line in WHOLE.splitlines() for phrase in line.split("|") if phrase.strip())


def is_placeholder(text: str) -> bool:
    """Whether a text only says that there is none; also of a text that `normalise` has been through."""
    if len(text) > 200 or not text:
        return False
    normalised = normalise(text)
    if not normalised:
        return bool(STROKES.fullmatch(text))
    words = normalised.split()
    if len(words) == 1 and normalised in NOT_ALONE:
        return False
    is_denial = len(words) <= MAX_WORDS and not denials.isdisjoint(words) and words_of_placeholders.issuperset(words)
    return is_denial or normalised in phrases
