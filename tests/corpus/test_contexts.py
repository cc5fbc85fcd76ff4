"""What a text answers is kept with it where that is asked for: the right message, cut, redacted, never published by
accident, and read by the model that is trained on it.
"""

import json
import mailbox
from email.message import EmailMessage

import pytest

import tests.corpus.made_networks  # noqa: F401  (adds its own)
from revinst.corpus.chats.assistants import read_chatgpt
from revinst.corpus.contexts import MAX_CONTEXT, Contexts
from revinst.corpus.ingest import Ingest
from revinst.corpus.preview import write_page
from revinst.corpus.sample import Sample
from revinst.data.split import read_split
from revinst.inference.trained import open_trained
from revinst.runs.folder import Run
from tests.commands.test_run import fit, run_command
from tests.corpus.made_exports import EXPORTS, THEIRS, write_export
from tests.corpus.test_authors import chat
from tests.corpus.test_corpus_command import LOOSE, read

ME, KIM = "alex@example.com", "Kim Ode <kim@example.com>"
WITHOUT = ("discord", "discord_table")  # what others wrote is not in them


@pytest.mark.parametrize("name", EXPORTS)
def test_of_every_export(tmp_path, name):
    """In each chat my second message answers Kim's; posts and notes answer nothing that is in the export."""
    export = EXPORTS[name]()
    write_export(tmp_path, export)
    me = [export.me] if export.me else []
    texts = list(Ingest(tmp_path, me, contexts=True).texts())
    answers = texts[0].kind == "chat" and name not in WITHOUT
    assert [text.context for text in texts] == (["", THEIRS] if answers else [""] * len(texts))
    assert tuple(text.text for text in texts) == export.texts
    assert not any(text.context for text in Ingest(tmp_path, me).texts()), "not asked for"


def write_mails(path, mails):
    """mails: sender, body, id, in reply to."""
    box = mailbox.mbox(path)
    for sender, body, name, answered in mails:
        mail = EmailMessage()
        mail["From"], mail["Subject"], mail["Message-ID"] = sender, "Hello", f"<{name}@x>"
        mail["Date"], mail["Cc"] = "Mon, 2 Mar 2026 10:00:00 +0000", "Robin Quarkington <r@example.com>"
        if answered:
            mail["References"] = "<root@x> " + " ".join(f"<{each}@x>" for each in answered)
            mail["In-Reply-To"] = f"<{answered[-1]}@x>"
        mail.set_content(body)
        box.add(mail)
    box.close()
    return path


MAILS = {
    "the mail that is named": ([(KIM, "Does it rain?", "k", ()), (ME, "It does.", "m", ("k",))], "Does it rain?"),
    "it lies behind": ([(ME, "It does.", "m", ("k",)), (KIM, "Does it rain?", "k", ())], "Does it rain?"),
    "not the one before": (
        [(KIM, "Does it rain?", "k", ()), (KIM, "Or snow?", "l", ()), (ME, "It does.", "m", ("k",))],
        "Does it rain?",
    ),
    "without what it quotes": (
        [(KIM, "Does it rain?\n\nOn 1 Mar 2026, Ann wrote:\n> A secret.\n", "k", ()), (ME, "It does.", "m", ("k",))],
        "Does it rain?",
    ),
    "a mail that is not there": ([(KIM, "Long ago.", "k", ()), (ME, "It does.", "m", ("k", "gone"))], ""),
    "mine": ([(KIM, "Hm?", "k", ()), (ME, "It rains.", "n", ("k",)), (ME, "It does.", "m", ("k", "n"))], ""),
    "nothing": ([(KIM, "Does it rain?", "k", ()), (ME, "It does.", "m", ())], ""),
}  # fmt: skip


@pytest.mark.parametrize("case", MAILS)
def test_of_a_mail(tmp_path, case):
    mails, expected = MAILS[case]
    ingest = Ingest(write_mails(tmp_path / "a.mbox", mails), [ME], contexts=True)
    assert {text.text: text.context for text in ingest.texts()}["It does."] == expected


def say(contexts, *messages):
    for message in messages:
        contexts.look(message)


def test_in_a_chat():
    """All that was said since I spoke, once; of another chat, of a day before and from later nothing."""
    contexts = Contexts()
    say(contexts, chat(0, text="Hello?"), chat(1, text="Still there?"), chat(1, conversation="d", text="Elsewhere."))
    assert contexts.said_before(chat(2, "Alex")) == "Hello?\nStill there?"
    assert contexts.said_before(chat(3, "Alex")) == ""
    say(contexts, chat(4, text="Good night."))
    assert contexts.said_before(chat(4 + 480, "Alex")) == ""
    say(contexts, chat(9, text="From later."), chat(6, text="In time."))
    assert contexts.said_before(chat(7, "Alex")) == "In time."


@pytest.mark.parametrize("text", ["A half \ud83d of a sign.", "A NUL \0 in it."])
def test_what_no_file_can_hold(tmp_path, capsys, text):
    """It is no context, and neither the page nor the list of authors ends with it."""
    messages = [{"sender_name": "Kim \ud83d", "content": text, "timestamp_ms": 1772445600000}]
    messages += [{"sender_name": "Alex", "content": each, "timestamp_ms": 1772445601000 + n}
                 for n, each in enumerate((text, "Here I am."))]  # fmt: skip
    whole = {"participants": [{"name": "Alex"}], "messages": messages}
    (tmp_path / "message_1.json").write_text(json.dumps(whole))
    args = ("corpus", tmp_path / "message_1.json")
    assert run_command(*args, "--list_authors") == 0 and "Kim ?" in capsys.readouterr().out
    for redact in ((), ("--redact",)):
        out = tmp_path / f"own{len(redact)}"
        assert run_command(*args, out, "--me", "Alex", "--context", "--texts_only", *redact) == 0
        assert [(row["text"], row["context"]) for row in read(out / "texts.jsonl")] == [("Here I am.", "")]


def test_cut_to_what_fits():
    """Whole messages, the newest; of one that is too long its beginning, up to a word."""
    contexts = Contexts()
    say(contexts, *(chat(n, text=f"{n} " + "word " * 100) for n in range(20)))
    found = contexts.said_before(chat(21, "Alex"))
    assert found.startswith("17 ") and "\n19 word" in found and len(found) <= MAX_CONTEXT
    say(contexts, chat(30, text="Wort " * 1000))
    found = contexts.said_before(chat(31, "Alex"))
    assert MAX_CONTEXT - 5 <= len(found) <= MAX_CONTEXT and found.endswith("Wort")
    say(contexts, chat(40, text="字" * 5000))
    assert contexts.said_before(chat(41, "Alex")) == "字" * MAX_CONTEXT


def test_an_answer_that_was_made_anew_is_no_context(tmp_path):
    """Of ChatGPT's answers the one that is shown, wherever it stands in the file; none of its tools'."""

    def node(name, parent, role, text, **fields):
        content = {"content_type": "text", "parts": [text]}
        message = {"author": {"role": role}, "create_time": 1772445600, "content": content} | fields
        return {"id": name, "message": message, "parent": parent, "children": []}

    nodes = [
        node("c", "b2", "user", "Thanks."), node("a", None, "user", "Why?"), node("b2", "t", "assistant", "So."),
        node("b1", "a", "assistant", "No idea."), node("t", "a", "assistant", "search()", recipient="browser"),
    ]  # fmt: skip
    whole = {"title": "x", "create_time": 1, "mapping": {each["id"]: each for each in nodes}, "current_node": "c"}
    (tmp_path / "c.json").write_text(json.dumps([whole]))
    assert [text.context for text in Ingest(tmp_path / "c.json", contexts=True).texts()] == ["", "So."]
    assert [each.where for each in read_chatgpt(tmp_path / "c.json", "x")] == [f"x#1.{n}" for n in (4, 2, 5, 3, 1)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Thirty questions of Kim, with things that identify people, and my answers."""
    mails = []
    for number in range(30):
        question = f"Dear Robin Quarkington, is number {number} at home? Write to boss{number}@secret.example."
        mails.append((KIM, question, f"k{number}", ()))
        mails.append((ME, f"Number {number} is at home, {number} times.", f"m{number}", (f"k{number}",)))
    return write_mails(tmp_path_factory.mktemp("mails") / "a.mbox", mails)


@pytest.fixture(scope="module")
def corpus(source, backward_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    loose = (p for name in (*LOOSE, "min_words", "duplicate_text") for p in ("--filter", f"{name}=off"))
    options = ("--me", ME, "--max_new_tokens", 6, "--samples", 1, "--redact", "--context", *loose)
    assert run_command("corpus", source, folder / "own", "--run", backward_run, *options) == 0
    return folder / "own"


def test_all_forms_have_it_redacted(corpus):
    rows = read(corpus / "dataset.jsonl")
    assert len(rows) > 20 and all(row["context"].startswith("Dear [NAME_") for row in rows)
    assert [row["input"] for row in read(corpus / "alpaca.jsonl")] == [row["context"] for row in rows]
    asked = [row["messages"][0]["content"] for row in read(corpus / "messages.jsonl")]
    assert asked == [f"{row['instruction']}\n\n{row['context']}".strip() for row in rows]
    card = json.loads((corpus / "card.json").read_text())
    assert card["counts"]["kept_with_context"] == len(rows) and card["settings"]["contexts"] is True
    assert "`context` is what others wrote" in (corpus / "README.md").read_text()
    for path in corpus.rglob("*"):
        assert not path.is_file() or not any(word in path.read_bytes() for word in (b"secret.example", b"Quark"))


def test_another_choice_needs_another_folder(corpus, source, capsys):
    args = ("corpus", source, corpus, "--me", ME, "--redact", "--texts_only")
    assert run_command(*args) == 2 and "made with another contexts" in capsys.readouterr().err


def test_texts_that_were_made_before_there_was_a_choice(source, tmp_path, capsys):
    """They are without."""
    args = ("corpus", source, tmp_path / "own", "--me", ME, "--texts_only")
    assert run_command(*args) == 0
    path = tmp_path / "own" / "settings.json"
    settings = json.loads(path.read_text())
    assert settings.pop("contexts") is False
    path.write_text(json.dumps(settings))
    assert run_command(*args) == 0
    assert run_command(*args, "--context") == 2 and "made with another contexts" in capsys.readouterr().err


def test_it_goes_up_if_that_is_said_twice(corpus, source, backward_run, capsys, tmp_path):
    to = ("--push_to_hub", "me/own", "--dry_run")
    for private in ((), ("--keep_private",)):
        assert run_command("publish", corpus, "--dataset", *to, *private) == 2
        error = capsys.readouterr().err
        assert "what others wrote to you" in error and "--publish_context" in error and len(error.splitlines()) == 1
    assert run_command("publish", corpus, "--dataset", *to, "--publish_context") == 0
    assert "dataset.jsonl" in capsys.readouterr().out
    (corpus / "settings.json").rename(tmp_path / "settings.json")  # as in a copy of what may leave
    assert run_command("publish", corpus, "--dataset", *to) == 2
    (tmp_path / "settings.json").rename(corpus / "settings.json")
    args = ("corpus", source, tmp_path / "out", "--run", backward_run, "--me", ME, "--redact", "--context", *to)
    assert (
        run_command(*args) == 2 and "--publish_context" in capsys.readouterr().err and not (tmp_path / "out").exists()
    )
    assert run_command("publish", corpus, "--dataset", "--push_to_hub", "me/own", "--publish_context", "--public",
                       "--keep_private") == 2  # fmt: skip


def test_the_page_shows_it(source, tmp_path):
    ingest = Ingest(source, [ME], sample=(sample := Sample(5)), contexts=True)
    write_page(tmp_path / "page.html", "mail", ingest, sample, None)
    html = (tmp_path / "page.html").read_text()
    assert html.count('<div class="context"') == 5 and "Dear Robin" in html
    write_page(tmp_path / "page.html", "mail", Ingest(source, [ME], sample=sample), sample, None)
    assert '<div class="context"' not in (tmp_path / "page.html").read_text()


@pytest.mark.wide  # two trainings
def test_a_model_learns_from_it(corpus, tiny_llama, tmp_path):
    """With data.context: include, as in configs/personal.yaml; its page then has a field for it."""
    data = {"data.source": corpus / "dataset.jsonl", "data.split": corpus / "split.json", "data.template": "forward"}
    for name, context in (("with", "include"), ("without", "drop")):
        options = data | {"data.context": context, "data.heldout_fraction": 0, "trainer.max_steps": 1}
        assert fit(tmp_path, name, tiny_llama, **options) == 0
    seen, unseen = (open_trained(str(tmp_path / name)) for name in ("with", "without"))
    assert Run(seen.path).read_manifest()["data"]["with_context"] == len(read_split(seen.run.split).train)
    assert seen.saw_contexts and not unseen.saw_contexts
    assert "### Input:\nDear [NAME" in seen.encode_to_generate(seen.load_examples()[:1], 8).prompts[0].text
