"""Of 200 answers to others in ten languages nothing that others wrote stays, nor their names, and all of mine does."""

import pytest

from revinst.corpus.ingest import Ingest
from tests.corpus.made_threads import FORMS, LANGUAGES, ME, make_answers


@pytest.mark.parametrize("seed", [0, 1])
def test_what_others_wrote_is_gone_in_ten_languages(tmp_path, seed):
    answers = {}
    for number, (name, mail, own, others) in enumerate(make_answers(seed)):
        (tmp_path / f"{number:03}.eml").write_text(mail)
        answers[f"{number:03}.eml"] = (name, own, others)
    texts = {text.where.rpartition("/")[2]: text.text for text in Ingest(tmp_path, [ME]).texts()}
    assert len(texts) == len(answers) == len(LANGUAGES) * len(FORMS) == 100
    for where, (name, own, others) in answers.items():
        assert not [words for words in others if words in texts[where]], name
        assert texts[where].split() == own.split(), name
