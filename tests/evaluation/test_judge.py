"""A judge over HTTP: no answer is lost or paid twice, whatever the server does; nothing leaves unasked."""

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from revinst.commands.compare import main as compare
from revinst.commands.score import main as score
from revinst.errors import UserError
from revinst.evaluation import judge_client
from revinst.evaluation.judge import CHOICES, FILE, RATINGS, Judge, parse_answer
from revinst.evaluation.judge_client import read_reply, read_wait
from revinst.evaluation.judge_labels import cohens_kappa
from revinst.evaluation.judge_settings import JudgeSettings
from revinst.evaluation.judged import Judged, compare_predictions, rate_predictions, weigh
from tests.evaluation.stand_in import StandIn, between, serving

WORDS = "one two three four five six"
SECRET = "sk-very-secret-7"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(judge_client, "FIRST_WAIT_S", 0.01)
    with serving() as stand_in:
        yield stand_in


def settings_of(server: StandIn, **more) -> JudgeSettings:
    settings = JudgeSettings(server.url, "m", **more)
    settings.check()
    return settings


def rows_of(count: int) -> tuple[Judged, list[str]]:
    """Predictions of 1 to 5 words and a number, by which no two are alike."""
    ids = [f"row-{n}" for n in range(count)]
    predictions = [" ".join([f"w{n}", *WORDS.split()[: n % 5]]) for n in range(count)]
    return Judged(ids, [f"text {n}" for n in range(count)], ids), predictions


def expected(predictions: list[str]) -> list[float]:
    return [float(len(each.split())) for each in predictions]


def test_rates_each_row_once_and_remembers(server, tmp_path, capsys):
    rows, predictions = rows_of(12)
    settings = settings_of(server, prices=(1.0, 10.0))
    ratings, use = rate_predictions(settings, tmp_path, rows, predictions)
    assert ratings.tolist() == expected(predictions)
    assert (use["n"], use["requests"], use["prompt_tokens"], use["completion_tokens"]) == (12, 12, 1200, 120)
    assert use["cost"] == pytest.approx(0.0024)
    assert all(body["temperature"] == 0 and body["model"] == "m" for body in server.bodies)
    assert f"12 questions go to {server.url}/v1/chat/completions" in capsys.readouterr().err
    again, use_again = rate_predictions(settings, tmp_path, rows, predictions)
    assert again.tolist() == ratings.tolist() and use_again == use and len(server.paid) == 12
    assert "go to" not in capsys.readouterr().err, "nothing was sent, so no address is shown"
    kept = (tmp_path / FILE).read_text()
    assert "text 3" not in kept and "w3" not in kept


@pytest.mark.parametrize("change", ["model", "rubric", "text"])
def test_another_question_is_asked_anew(server, tmp_path, change):
    rows, predictions = rows_of(3)
    rate_predictions(settings_of(server), tmp_path, rows, predictions)
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("Grade.\n<text>\n{text}\n</text>\n<instruction>\n{instruction}\n</instruction>\n")
    changed = {"model": {"model": "other"}, "rubric": {"rubric": rubric}, "text": {}}
    other = JudgeSettings(**({"url": server.url, "model": "m"} | changed[change]))
    if change == "text":
        rows = Judged(rows.ids, ["new", *rows.texts[1:]], rows.groups)
    rate_predictions(other, tmp_path, rows, predictions)
    assert len(server.paid) == {"model": 6, "rubric": 6, "text": 4}[change]


@pytest.mark.parametrize("fault", ["429", "503", "cut", "broken"])
def test_faults_on_the_way_lose_nothing(server, tmp_path, fault):
    rows, predictions = rows_of(8)
    server.faults = [fault, "", fault, fault]
    ratings, use = rate_predictions(settings_of(server), tmp_path, rows, predictions)
    assert ratings.tolist() == expected(predictions) and use["requests"] == 8
    assert len(server.paid) == len(set(server.paid)) == 8 and len(server.bodies) == 11


def test_waits_as_long_as_the_server_says(server, tmp_path):
    rows, predictions = rows_of(1)
    server.faults, server.headers = ["429"], {"Retry-After": "0.5"}
    rate_predictions(settings_of(server), tmp_path, rows, predictions)
    assert server.times[1] - server.times[0] >= 0.5


def test_retry_after_is_seconds_or_a_date():
    from email.utils import formatdate

    assert (read_wait("7"), read_wait(None), read_wait("soon"), read_wait("-3")) == (7.0, 0.0, 0.0, 0.0)
    assert 25 < read_wait(formatdate(time.time() + 30, usegmt=True)) <= 31


def test_a_server_that_wants_to_wait_too_long_ends_it_and_keeps_what_came(server, tmp_path):
    rows, predictions = rows_of(6)
    settings = settings_of(server, parallel=1)
    server.faults, server.headers = ["", "", "429"], {"Retry-After": "3600"}
    with pytest.raises(UserError, match=r"HTTP 429.*the same command goes on"):
        rate_predictions(settings, tmp_path, rows, predictions)
    assert len(server.paid) == 2
    server.headers = {}
    ratings, _ = rate_predictions(settings, tmp_path, rows, predictions)
    assert ratings.tolist() == expected(predictions) and len(server.paid) == len(set(server.paid)) == 6


def test_a_slow_answer_is_asked_again_after_the_timeout(server, tmp_path, monkeypatch):
    rows, predictions = rows_of(1)
    monkeypatch.setattr(judge_client, "TIMEOUT_S", 0.2)
    server.delay_s = 0.5

    def hurry() -> None:
        server.delay_s = 0.0

    timer = threading.Timer(0.3, hurry)
    timer.start()
    ratings, _ = rate_predictions(settings_of(server), tmp_path, rows, predictions)
    timer.join()
    assert ratings.tolist() == expected(predictions) and len(server.bodies) >= 2


def test_nonsense_is_asked_again_once_and_counted(server, tmp_path):
    rows, predictions = rows_of(4)
    server.faults = ["I'd say 4 or 5", "", "", "Great!", "Great!", ""]
    settings = settings_of(server, parallel=1)
    ratings, use = rate_predictions(settings, tmp_path, rows, predictions)
    assert (use["unreadable"], use["requests"]) == (1, 6) and np.isnan(ratings).tolist() == [False, False, True, False]
    roles = [[message["role"] for message in body["messages"]] for body in server.bodies]
    assert roles[1] == ["user", "assistant", "user"] and [len(each) for each in roles] == [1, 3, 1, 1, 3, 1]
    again, _ = rate_predictions(settings, tmp_path, rows, predictions)
    assert np.array_equal(again, ratings, equal_nan=True) and len(server.bodies) == 6


def test_a_judge_that_never_answers_is_no_judge(server, tmp_path):
    rows, predictions = rows_of(2)
    server.answer = lambda prompt: "As a language model"
    with pytest.raises(UserError, match=r"none of 2 answers can be used: 'As a language model'"):
        rate_predictions(settings_of(server), tmp_path, rows, predictions)


def test_an_answer_that_was_cut_off_gets_more_room(server, tmp_path):
    """Of a model that thinks first: the same question again, without the thoughts."""
    rows, predictions = rows_of(3)
    server.thinks = 2000
    ratings, use = rate_predictions(settings_of(server, parallel=1), tmp_path, rows, predictions)
    assert ratings.tolist() == expected(predictions) and use["requests"] == 6
    assert [body["max_tokens"] for body in server.bodies] == [1024, 8192] * 3
    assert all(len(body["messages"]) == 1 for body in server.bodies)


def refuse_options(body: dict) -> str:
    """As hosted models that think do."""
    if "max_tokens" in body:
        return "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    return "'temperature' does not support 0 with this model." if "temperature" in body else ""


@pytest.mark.parametrize("parallel", [1, 4])
def test_options_that_a_server_refuses_are_given_up(server, tmp_path, parallel, capsys):
    """Once for all, also where several were refused at the same time."""
    rows, predictions = rows_of(8)
    server.refuse, server.delay_s = refuse_options, 0.02
    ratings, use = rate_predictions(settings_of(server, parallel=parallel), tmp_path, rows, predictions)
    assert ratings.tolist() == expected(predictions) and use["refused"] == 0
    assert len(server.bodies) <= 8 + 2 * parallel
    assert server.bodies[-1].keys() == {"model", "messages", "max_completion_tokens"}
    assert capsys.readouterr().err.count("takes no temperature of 0") == 1


@pytest.mark.parametrize("reason", ["maximum context length is 512 tokens, max_tokens 1024", "a text on temperature"])
def test_a_refused_text_is_no_refused_option(server, tmp_path, reason):
    rows, predictions = rows_of(3)
    server.refuse = lambda body: reason if "text 1" in body["messages"][0]["content"] else ""
    ratings, use = rate_predictions(settings_of(server, parallel=1), tmp_path, rows, predictions)
    assert use["refused"] == 1 and np.isnan(ratings).tolist() == [False, True, False]
    assert all({"temperature", "max_tokens"} <= body.keys() for body in server.bodies)


def test_a_message_may_come_in_parts():
    content = [
        {"type": "thinking", "thinking": "5?"},
        {"type": "text", "text": '{"answer": '},
        {"type": "text", "text": "4}"},
    ]
    reply = read_reply(json.dumps({"choices": [{"message": {"content": content}}]}).encode())
    assert (reply.text, reply.num_read, reply.was_cut) == ('{"answer": 4}', 0, False)


def test_a_text_that_the_server_refuses_is_left_out(server, tmp_path):
    rows, predictions = rows_of(3)
    server.faults = ["400"]
    settings = settings_of(server, parallel=1)
    ratings, use = rate_predictions(settings, tmp_path, rows, predictions)
    assert use["refused"] == 1 and use["n"] == 2 and np.isnan(ratings).tolist() == [True, False, False]
    ratings, use = rate_predictions(settings, tmp_path, rows, predictions)
    assert use["refused"] == 0 and ratings.tolist() == expected(predictions), "asked again by the next command"


@pytest.mark.parametrize("code", ["401", "404", "redirect"])
def test_what_asking_again_cannot_mend_is_told_at_once_without_the_key(server, tmp_path, monkeypatch, code):
    rows, predictions = rows_of(20)
    monkeypatch.setenv("THE_KEY", SECRET)
    server.faults = [code] * 20
    with pytest.raises(UserError, match=f"HTTP {'307' if code == 'redirect' else code}") as told:
        rate_predictions(settings_of(server, key_variable="THE_KEY", parallel=1), tmp_path, rows, predictions)
    assert SECRET not in str(told.value) and len(server.bodies) == 1 and server.keys == [f"Bearer {SECRET}"]


def test_a_server_that_is_not_there_is_told_at_once(server, tmp_path):
    rows, predictions = rows_of(2)
    with pytest.raises(UserError, match="can't be reached"):
        rate_predictions(JudgeSettings("http://127.0.0.1:9", "m"), tmp_path, rows, predictions)


def test_a_key_is_sent_and_written_nowhere(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THE_KEY", SECRET)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a loopback address needs none
    path = write_rows(tmp_path / "theirs.jsonl", 6)
    assert score([str(path), "--judge", server.url, "--judge_model", "m", "--judge_key", "THE_KEY"]) == 0
    assert set(server.keys) == {f"Bearer {SECRET}"}
    files = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    shown = capsys.readouterr()
    assert not any(SECRET in text for text in (*files, shown.out, shown.err))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"url": "https://judge.example/v1"}, r"texts would leave this machine .*--judge_remote"),
        ({"url": "http://192.168.1.5:8000"}, "--judge_remote"),
        ({"url": "http://localhost.judge.example"}, "--judge_remote"),
        ({"url": "localhost:8000"}, "no address"),
        ({"url": "http://me:pw@localhost"}, "no name or password"),
        ({"url": "http://localhost/v1?key=7"}, "no address"),
        ({"model": ""}, "--judge_model"),
        ({"key_variable": "NOT_THERE_AT_ALL"}, "no such variable"),
        ({"limit": 0}, "--judge_limit 0"),
        ({"parallel": 0}, "--judge_parallel 0"),
        ({"prices": (-1.0, 2.0)}, "--judge_price -1,2"),
        ({"prices": (float("nan"), 2.0)}, "--judge_price nan,2"),
        ({"rubric": Path("nowhere.txt")}, "--judge_rubric nowhere.txt"),
        ({"labels": Path("nowhere.jsonl")}, "--labels nowhere.jsonl"),
    ],
)
def test_mistakes_are_one_line(more, named):
    with pytest.raises(UserError, match=named):
        JudgeSettings(**({"url": "http://localhost:8000", "model": "m"} | more)).check()


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
        ("http://[::1]:8000/", "http://[::1]:8000/v1/chat/completions"),
        ("http://127.0.0.1/v1", "http://127.0.0.1/v1/chat/completions"),
        ("http://localhost/api/v1/chat/completions", "http://localhost/api/v1/chat/completions"),
    ],
)
def test_addresses(url, endpoint):
    settings = JudgeSettings(url, "m")
    settings.check()
    assert settings.endpoint == endpoint
    JudgeSettings("https://judge.example", "m", is_remote_meant=True).check()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"answer": 4}', 4),
        (" 4\n", 4),
        ('```json\n{"answer": 2}\n```', 2),
        ("<think>5? no</think>\n3", 3),
        ("<think>5", None),
        ("is it 5? no</think>\n\n3", 3),
        ("[THINK]5? no[/THINK]3", 3),
        ("<|channel|>analysis<|message|>5?<|end|><|start|>assistant<|channel|>final<|message|>3", 3),
        ("<think>5</think> I say 3", None),
        ("4.", None),
        ("6", None),
        ("٤", None),
        ('{"answer": 4.0}', None),
        ('{"answer": true}', None),
        ('{"answer": 4, "why": ""}', None),
        ("[4]", None),
        ("", None),
        ("[" * 5000, None),
    ],
)
def test_answers_are_strict(text, answer):
    assert parse_answer(text, RATINGS) == answer


def test_texts_fill_a_rubric_once(server, tmp_path):
    """A text that looks like a slot of the rubric stays a text."""
    judge = Judge(settings_of(server), tmp_path, "rating")
    question = judge.rate("a {instruction} and {text}", "x" * 20_000)
    assert between("text", question.prompt) == "a {instruction} and {text}"
    assert len(between("instruction", question.prompt)) == 12_000 and judge.cut == 1
    bad = tmp_path / "bad.txt"
    bad.write_text("{text} alone")
    with pytest.raises(UserError, match=r"\{instruction\} is not in it"):
        Judge(settings_of(server, rubric=bad), tmp_path, "rating")


@pytest.mark.parametrize(
    ("straight", "swapped", "found"),
    [(2, 1, (1, 1)), (1, 2, (-1, 1)), (0, 0, (0, 1)), (1, 1, (0, 0)), (2, 2, (0, 0)), (2, 0, (0, 0)), (0, 1, (0, 0))],
)
def test_a_win_needs_both_orders(straight, swapped, found):
    assert weigh(straight, swapped) == found
    assert np.isnan(weigh(None, swapped)).all() and set(CHOICES) == {0, 1, 2}


def prefer_longer(prompt: str) -> str:
    first, second = (len(between(f"instruction_{n}", prompt)) for n in (1, 2))
    return json.dumps({"answer": 0 if first == second else 1 if first > second else 2})


def test_a_judge_that_goes_by_place_decides_nothing(server, tmp_path):
    rows, _ = rows_of(10)
    a, b = [f"a {n}" for n in range(10)], [f"b {n}" for n in range(10)]
    server.answer = lambda prompt: '{"answer": 1}'
    values, use = compare_predictions(settings_of(server), tmp_path, rows, a, b)
    assert values.tolist() == [0.0] * 10 and use["orders_agree"]["mean"] == 0.0 and len(server.paid) == 20


def unlike(text: str) -> str:
    """A long text that nothing else is a near-duplicate of."""
    return f"{text} {hashlib.sha256(text.encode()).hexdigest()}"


def write_rows(path: Path, count: int, extra: str = "") -> Path:
    rows, predictions = rows_of(count)
    lines = [
        {"id": name, "response": unlike(text), "reference": unlike(name), "prediction": prediction + extra}
        for name, text, prediction in zip(rows.ids, rows.texts, predictions, strict=True)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_score_and_compare_by_a_judge(server, tmp_path, capsys):
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps({"id": f"row-{n}", "label": 1 + n % 5}) + "\n" for n in range(8)))
    judge = ["--judge", server.url, "--judge_model", "m", "--judge_price", "1,10"]
    a, b = tmp_path / "a", tmp_path / "b"
    path = write_rows(tmp_path / "a.jsonl", 20)
    assert score([str(path), "--output", str(a), *judge, "--labels", str(labels), "--judge_limit", "10"]) == 0
    scores = json.loads((a / "scores.json").read_text())
    assert scores["metrics"]["judge"] == {"mean": 3.0, "ci95": scores["metrics"]["judge"]["ci95"], "n": 10}
    assert scores["judge"]["people"]["accuracy"] == scores["judge"]["people"]["kappa"] == 1.0
    assert len(server.paid) == 10 and "kappa 1.000" in capsys.readouterr().out
    html = (a / "report.html").read_text()
    assert "What a judge says" in html and "accuracy 1.000" in html
    rows = [json.loads(line) for line in (a / "predictions.jsonl").read_text().splitlines()]
    assert rows[3]["judge"] == 4.0 and rows[15]["judge"] is None

    assert score([str(write_rows(tmp_path / "b.jsonl", 20, " longer")), "--output", str(b)]) == 0
    server.answer, server.paid = prefer_longer, []
    capsys.readouterr()
    labels.write_text("".join(json.dumps({"id": f"row-{n}", "label": 2 if n else 1}) + "\n" for n in range(8)))
    assert compare([str(a), str(b), *judge, "--labels", str(labels), "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["judged"]
    assert (pair["n"], pair["wins"], pair["ties"], pair["losses"]) == (20, 20, 0, 0) and pair["p"] < 0.01
    assert pair["judge"]["orders_agree"]["mean"] == 1.0 and len(server.paid) == 40
    assert pair["judge"]["people"]["accuracy"] == 7 / 8 and (b / FILE).is_file()
    page = tmp_path / "page.html"
    assert compare([str(a), str(b), *judge, "--output", str(page)]) == 0 and len(server.paid) == 40
    assert "20 won, 0 tied, 0 lost" in page.read_text()
    assert "both orders say the same: 1.000" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match="give two, without --rank"):
        compare([str(a), str(b), "--rank", *judge, "--labels", str(labels)])
    labels.write_text('{"id": "row-1", "label": "best"}\n')
    with pytest.raises(UserError, match=r"labels.jsonl:1: label 'best': give 0 to 2"):
        compare([str(a), str(b), *judge, "--labels", str(labels)])


def test_options_without_a_judge_are_refused(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", 4)
    with pytest.raises(UserError, match="--judge_model: of a judge; give --judge URL"):
        score([str(path), "--judge_model", "m"])
    with pytest.raises(UserError, match="--judge_price 3: give IN,OUT"):
        score([str(path), "--judge", "http://localhost", "--judge_model", "m", "--judge_price", "3"])


def test_a_killed_command_goes_on_without_paying_twice(server, tmp_path):
    path = write_rows(tmp_path / "a.jsonl", 30)
    server.delay_s = 0.1
    command = "import sys; from revinst.cli import main; sys.exit(main(sys.argv[1:]))"
    judge = ["--judge", server.url, "--judge_model", "m", "--judge_parallel", "1"]
    process = subprocess.Popen([sys.executable, "-c", command, "score", str(path), *judge], stderr=subprocess.PIPE)
    while len(server.paid) < 6:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.delay_s = 0.0
    kept = (tmp_path / "a-scores" / FILE).read_bytes().count(b"\n")
    asked = len(server.bodies)
    assert score([str(path), *judge]) == 0
    assert kept >= 5 and len(server.bodies) - asked == 30 - kept, "what was on its way alone is asked again"
    assert len(set(server.paid)) == 30


def test_kappa_is_that_of_the_literature():
    """Cohen's own kind of table: 45, 15, 25, 15 of 100 give (0.6 - 0.54) / 0.46."""
    ours = [1] * 60 + [2] * 40
    theirs = [1] * 45 + [2] * 15 + [1] * 25 + [2] * 15
    assert cohens_kappa(ours, theirs) == pytest.approx(0.06 / 0.46)
    assert cohens_kappa([1, 1], [1, 1]) is None
    assert cohens_kappa([1, 3, 5], [1, 3, 5], squared=True) == 1.0
    near, far = (cohens_kappa([1, 2, 4, 5], other, squared=True) for other in ([2, 1, 5, 4], [5, 4, 2, 1]))
    assert (near, far) == (pytest.approx(0.8), pytest.approx(-1.0))
