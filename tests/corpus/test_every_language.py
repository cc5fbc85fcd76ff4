"""The filters in sixteen languages and in scripts without spaces: what they name is dropped, plain pairs stay."""

# ruff: noqa: RUF001  # other scripts are meant
import pytest

from revinst.corpus.build import count_without_phrases
from revinst.corpus.output import describe_languages
from revinst.corpus.phrases import DANGLING, LANGUAGES, META, find_phrase
from tests.corpus.made_records import run

# language -> (a text, a good instruction, one about the task itself or a refusal, one that names a text nobody has)
CASES = {
    "de": (
        "Zwiebeln langsam anbraten, dann Möhren, Kümmel und rote Linsen dazugeben. Am Ende kommt etwas Essig hinein.",
        "Erkläre mir bitte, wie man zu Hause eine gute Linsensuppe kocht.",
        "Als KI kann ich selbst leider keine Suppe kochen.",
        "Fasse den Text über die Linsensuppe kurz zusammen.",
    ),
    "ru": (
        "Медленно обжарьте лук, потом добавьте морковь, тмин и красную чечевицу. В конце влейте немного уксуса.",
        "Объясни, как дома сварить хороший суп из чечевицы.",
        "Напиши инструкцию для языковой модели про суп.",
        "Кратко изложи текст о супе из чечевицы.",
    ),
    "ar": (
        "اقل البصل ببطء ثم أضف الجزر والكمون والعدس الأحمر. وفي النهاية أضف قليلا من الخل.",
        "اشرح لي كيف أطبخ شوربة عدس جيدة في البيت.",
        "أنا نموذج لغوي ولا أستطيع طبخ الشوربة.",
        "لخص النص عن شوربة العدس في جملة واحدة.",
    ),
    "hi": (
        "प्याज को धीमी आँच पर भूनें, फिर गाजर, जीरा और मसूर दाल डालें। आखिर में थोड़ा सिरका डालें।",
        "घर पर अच्छा दाल का सूप बनाने का तरीका समझाइए।",
        "एक एआई के रूप में मैं सूप नहीं बना सकता।",
        "इस लेख में सूप के बारे में क्या लिखा है?",
    ),
    "zh": (
        "先把洋葱慢慢炒香，再加入胡萝卜、孜然和红扁豆，最后倒入一点醋。",
        "请说明在家怎样煮一锅好喝的扁豆汤。",
        "作为一个人工智能，我无法自己煮汤。",
        "请总结这篇文章里关于扁豆汤的内容。",
    ),
    "ja": (
        "玉ねぎをゆっくり炒めてから、にんじんとクミンと赤レンズ豆を加えます。最後に酢を少し入れます。",
        "家でおいしいレンズ豆のスープを作る方法を教えてください。",
        "AIとしてスープを作ることはできません。",
        "この記事のスープの作り方を要約してください。",
    ),
    "ko": (
        "양파를 천천히 볶은 다음 당근과 커민과 붉은 렌틸콩을 넣습니다. 마지막에 식초를 조금 넣습니다.",
        "집에서 맛있는 렌틸콩 수프를 끓이는 방법을 설명해 주세요.",
        "인공지능으로서 저는 수프를 끓일 수 없습니다.",
        "다음 글을 읽고 수프에 대해 요약해 주세요.",
    ),
}  # fmt: skip
THAI = "ผัดหัวหอมช้า ๆ แล้วใส่แครอท ยี่หร่า และถั่วเลนทิลแดง สุดท้ายเติมน้ำส้มสายชูเล็กน้อย"


def reason(text: str, instruction: str) -> str:
    return run({"text": text, "instruction": instruction}).get(0, ("", ""))[0]


@pytest.mark.parametrize("language", CASES)
def test_each_filter_in_each_language(language):
    text, good, meta, dangling = CASES[language]
    assert reason(text, good) == ""
    assert reason(text, meta) == "meta_instruction" and reason(text, dangling) == "dangling_reference"
    assert reason(text, text[: len(text) // 2]) == "copy"
    assert reason(text, " ".join([good] * 3)) == "looping"
    assert reason(good[:3], good) == "too_short" and reason(text * 400, good) == "too_long"
    assert reason(text, "How do you cook a good soup at home, please?") == "wrong_language"


def test_short_instructions_in_another_script_are_in_the_wrong_language():
    text = CASES["zh"][0]
    assert (
        reason(text, "Cook good soup") == "wrong_language"
        and reason(CASES["de"][0], "怎样煮扁豆汤好喝？") == "wrong_language"
    )
    assert reason(text, "怎样用 Instant Pot 煮扁豆汤？") == ""


def test_scripts_without_lists_are_filtered_and_said_in_the_card():
    assert reason(THAI, "อธิบายวิธีทำซุปถั่วเลนทิลที่บ้านให้อร่อย") == ""
    assert reason(THAI, THAI[:40]) == "copy" and reason(THAI, "ทำซุปถั่วที่บ้าน " * 4) == "looping"
    rows = [{"text": THAI, "instruction": "สรุปข้อความนี้"}, {"text": CASES["zh"][0], "instruction": "怎样煮汤？"}]
    without = count_without_phrases(rows)
    assert without == {"th": 1} and "th (1)" in describe_languages(without)[1] and describe_languages({}) == []


@pytest.mark.parametrize(
    ("language", "dangling"),
    [
        ("fr", "Résume le texte en une phrase."),
        ("es", "Según el autor, ¿por qué se cuece la sopa?"),
        ("it", "Riassumi il testo sulla zuppa di lenticchie."),
        ("pt", "Traduza este artigo sobre a sopa de lentilhas."),
        ("nl", "Vat de tekst over de soep samen."),
        ("pl", "Streść tekst o zupie z soczewicy."),
        ("uk", "Переклади цю статтю про суп з сочевиці."),
        ("tr", "Bu makaleyi kısaca özetle lütfen."),
        ("en", "Summarise the text about the soup."),
    ],
)
def test_the_other_lists_are_read_too(language, dangling):
    text = {"uk": "Цибулю повільно обсмажте, потім додайте моркву, кмин і червону сочевицю."}.get(language, dangling)
    assert find_phrase(dangling, text, DANGLING) and not find_phrase(dangling, "", META)
    assert len(LANGUAGES) == 16 and language in LANGUAGES


def test_a_text_about_language_models_may_be_asked_for():
    instruction = "Explain in two sentences what a language model does."
    assert find_phrase(instruction, "The soup was cold and the waiter was late again.", META) == "language model"
    assert find_phrase(instruction, "A language model says how likely a text is, word by word.", META) == ""


@pytest.mark.parametrize(
    "everyday",
    [
        "Was kann ich tun, wenn ich nachts nicht schlafen kann?",
        "Schreibe eine Nachricht, dass ich morgen leider nicht kommen kann.",
        "Écris un mot pour dire que je ne peux pas venir samedi.",
        "No puedo dormir por las noches, ¿qué hago?",
        "Scrivi che domani non posso venire alla cena.",
        "Não consigo abrir o frasco de geleia, o que faço?",
        "Wat kan ik doen als ik niet kan slapen door de buren?",
        "Co zrobić, jeśli nie mogę zasnąć przez hałas sąsiadów?",
        "Я не могу уснуть из-за шума, что делать?",
        "Я не можу заснути через шум, що робити?",
        "Bu yazılımı bilgisayarıma nasıl kurarım?",
    ],
)
def test_everyday_requests_are_no_phrases_of_the_task(everyday):
    assert find_phrase(everyday, "", META) == "" and find_phrase(everyday, "", DANGLING) == ""
