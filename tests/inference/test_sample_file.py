"""The file of all samples: a torn line, ranks' parts, what is none."""

import json

import pytest

from revinst.errors import UserError
from revinst.inference.predictions import SampleFile
from revinst.inference.samples import Sample, Written

WRITTEN = Written([Sample("Why?", -1.5, 2, "eos"), Sample("", -0.5, 0, "length")], Sample("How?", -1.0, 2, "header"))


def test_it_comes_back_as_it_was(tmp_path):
    """From two ranks' parts, one of them torn by a kill."""
    path = tmp_path / "out.samples.jsonl"
    for rank, key in enumerate(("a", "b")):
        SampleFile(path, rank, 2).append(key, WRITTEN)
    part = tmp_path / "out.samples.part-1-of-2.jsonl"
    part.write_bytes(part.read_bytes() + b'["c", [null, [["Wh')
    SampleFile(path).append("d", Written(WRITTEN.samples))
    expected = {"d": Written(WRITTEN.samples), "a": WRITTEN, "b": WRITTEN}
    assert SampleFile(path).read() == expected == SampleFile(path).read()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


NO_SAMPLES = [["Why?", -1.5, 2]], [["Why?", "x", 2, "eos"]], [[1, -1.5, 2, "eos"]], [["Why?", -1.5, True, "eos"]]


@pytest.mark.parametrize("value", [3, [], [None], *([None, samples] for samples in NO_SAMPLES)], ids=str)
def test_what_is_none_is_refused(tmp_path, value):
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(["a", value]) + "\n")
    with pytest.raises(UserError, match="delete the file"):
        SampleFile(path).read()
