"""A file is the old one or the new one, and nothing is left beside it."""

import os

import pytest

from revinst.corpus.texts import write_records
from revinst.runs.files import whole_file, write_text


def test_after_an_error_the_old_file_is_whole_and_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_records(path, [{"a": 1}])

    def rows():
        yield {"a": 2}
        raise ValueError("the second row")

    with pytest.raises(ValueError, match="the second row"):
        write_records(path, rows())
    assert path.read_text() == '{"a": 1}\n' and os.listdir(tmp_path) == ["rows.jsonl"]


def test_what_a_killed_writer_left_is_written_over(tmp_path):
    (tmp_path / ".rows.jsonl.tmp").write_text("half of a much longer file")
    assert write_records(tmp_path / "rows.jsonl", [{"a": 1}]) == 1
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "new" / "state.json"
    with whole_file(path) as one, whole_file(path, shared=True) as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other and not path.exists()
    assert path.read_text() == "one"
    write_text(path, "two\n")
    assert path.read_bytes() == b"two\n" and os.listdir(path.parent) == ["state.json"]
