"""Every script is read: identical texts score 1.0, near ones above unrelated ones; what a metric can't see is null."""

# ruff: noqa: RUF001  # other scripts are meant
import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from revinst.evaluation.head import GOOGLES, UNICODES, choose_head, say_why
from revinst.evaluation.rouge import ROUGE_METRICS, score_rouge
from revinst.evaluation.sacrebleu_scores import choose_tokenizer, describe_sacrebleu, score_corpus
from revinst.evaluation.scores import score_predictions
from revinst.evaluation.summary import summarise_metrics
from revinst.evaluation.unicode_rouge import UNICODE_METRICS, is_readable, score_unicode_rouge, split_by_script

# (a text, one near it, one that has nothing to do with it) in each script
TEXTS = {
    "latin": ("Wie lange muss ein Ei kochen?", "Wie lange muss das Ei kochen?", "Nenne drei Städte am Meer."),
    "cyrillic": ("Сколько минут варить яйцо?", "Сколько минут надо варить яйцо?", "Назови три города у моря."),
    "greek": ("Πόση ώρα βράζει ένα αυγό;", "Πόση ώρα βράζει το αυγό;", "Πες μου τρεις πόλεις κοντά στη θάλασσα."),
    "arabic": ("كم دقيقة تسلق البيضة؟", "كم دقيقة يجب أن تسلق البيضة؟", "اذكر ثلاث مدن على البحر."),
    "hebrew": ("כמה זמן מבשלים ביצה?", "כמה זמן צריך לבשל ביצה?", "שלוש ערים ליד הים."),
    "hindi": ("अंडा कितनी देर उबालें?", "अंडा कितनी देर तक उबालें?", "समुद्र के पास तीन शहर बताओ।"),
    "thai": ("ต้มไข่นานกี่นาที", "ควรต้มไข่นานกี่นาที", "บอกชื่อเมืองริมทะเลสามแห่ง"),
    "chinese": ("煮鸡蛋要多久?", "煮一个鸡蛋要多久?", "说出三座海边城市。"),
    "japanese": ("卵は何分ゆでますか。", "卵は何分くらいゆでますか。", "海辺の街を三つ挙げて。"),
    "korean": ("달걀은 몇 분 삶아요?", "달걀은 보통 몇 분 삶아요?", "바닷가 도시 세 곳을 말해 줘."),
}
SEE_ALL = (*UNICODE_METRICS, "token_f1", "bleu", "chrf")


@pytest.mark.parametrize("script", TEXTS)
def test_identical_near_and_unrelated(script):
    text, near, unrelated = TEXTS[script]
    scores = score_predictions([text, near, unrelated], [text] * 3, [text] * 3)
    for metric in SEE_ALL:
        same, close, far = scores[metric]
        assert same == pytest.approx(1) and 0.2 < close < 1 and far < close, metric
    assert scores["exact_match"].tolist() == [1, 0, 0] and scores["copy_rate"][0] == 1
    for metric in ROUGE_METRICS:
        assert np.isnan(scores[metric]).all() == (script != "latin"), metric


def test_whether_a_row_is_read_depends_on_its_reference_alone():
    scores = score_predictions(["你好", "What is it?", "你好"], ["What is it?", "你好", "!?"])
    assert scores["rougeL"][0] == 0 and np.isnan(scores["rougeL"][1:]).all()
    assert scores["rougeL_unicode"][:2].tolist() == [0, 0]
    assert all(np.isnan(scores[name][2]) for name in (*UNICODE_METRICS, "token_f1", "exact_match", "length_ratio"))
    one_word = score_predictions(["Paris"], ["Paris"])
    assert one_word["rougeL_unicode"] == 1 and np.isnan(one_word["rouge2_unicode"]), "one word is no pair of words"


def test_half_of_the_letters_are_enough_for_googles():
    assert all(map(is_readable, ("Qué es?", "Was heißt 你好?", "7")))
    assert not any(map(is_readable, ("C++ 是什么?", "?", "")))
    assert split_by_script("Running shoes") == ["run", "shoe"] and split_by_script("跑鞋") == ["跑", "鞋"]


def test_english_is_googles_and_other_languages_have_their_own_stemmer():
    google = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    reference = "Explain how the running shoes of the athletes were cleaned"
    for prediction in ("How was the athlete's running shoe cleaning explained?", reference, "Name three cities"):
        expected = google.score(reference, prediction)
        assert score_unicode_rouge(prediction, reference) == pytest.approx(
            [expected[name].fmeasure for name in ("rouge1", "rouge2", "rougeL")], abs=1e-12
        )
    german = "Beschreibe mir die Häuser und ihre Gärten in einer kleinen Stadt"
    assert score_unicode_rouge("Haus und Garten kleiner Städte", german)[0] > 0.4
    assert score_rouge("Haus und Garten kleiner Städte", german)[0] < 0.4


def test_characters_score_as_rouge_chinese_scores_them():
    """Its ROUGE-L of texts split into characters: 2pr/(p + r + 1e-8) of the longest common subsequence."""
    ours, theirs, common = 6, 7, 5  # 今天天气很好 and 今天的天气不好, which share 今天天气好
    precision, recall = common / ours, common / theirs
    expected = 2 * precision * recall / (precision + recall + 1e-8)
    assert score_unicode_rouge("今天天气很好", "今天的天气不好")[2] == pytest.approx(expected, abs=1e-7)


def test_bleu_has_sacrebleus_tokenizer_of_the_script():
    chosen = {script: choose_tokenizer(text) for script, (text, *_) in TEXTS.items()}
    assert chosen.pop("japanese") in ("char", "ja-mecab")
    assert {chosen.pop("chinese"), chosen.pop("thai")} == {"zh", "char"} and set(chosen.values()) == {"13a"}
    text, near, _ = TEXTS["chinese"]
    corpus = BLEU(tokenize="zh").corpus_score([near], [[text]]).score / 100
    by_hand = BLEU(effective_order=True, tokenize="zh").sentence_score(near, [text]).score / 100
    assert score_predictions([near], [text])["bleu"][0] == pytest.approx(by_hand)
    assert score_corpus([near], [text])["bleu"] == pytest.approx(corpus)
    described = describe_sacrebleu([text, text, TEXTS["latin"][0]])
    assert described["bleu"]["rows"] == {"zh": 2, "13a": 1}
    assert all(f"tok:{name}|" in described["bleu"]["sacrebleu"] for name in ("zh", "13a"))


def test_what_leads_and_why():
    texts = [TEXTS["latin"][0]] * 3 + [TEXTS["chinese"][0]]
    for count, head in ((3, GOOGLES), (4, UNICODES)):
        scores = score_predictions(texts[:count], texts[:count])
        metrics = summarise_metrics(scores, np.arange(count), seed=0)
        assert choose_head(metrics, count) == head
        assert metrics["rougeL"]["n"] == 3 and metrics["rougeL_unicode"] == {"mean": 1, "ci95": [1, 1], "n": count}
    assert "in 1 of 4 rows" in say_why(metrics, 4)
    before = {"rougeL": {"mean": 0.5, "ci95": [0.4, 0.6]}}
    assert choose_head(before, 4) == GOOGLES and say_why(before, 4) == "", "of an older version"
