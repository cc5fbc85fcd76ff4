"""Archives: bombs, links, names that lead outside and archives without end are refused; nothing lies outside."""

import io
import os
import random
import stat
import tarfile
import tempfile
import zipfile

import pytest

from revinst.corpus import archives
from revinst.corpus.ingest import Ingest
from revinst.errors import UserError
from tests.corpus.made_documents import MINE, write_tar, write_zip

TEXT = MINE.encode()


def read(path):
    ingest = Ingest(path)
    return [text.text for text in ingest.texts()], {note.where: note.reason for note in ingest.not_kept}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where archives are unpacked; nothing may be left in it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert os.listdir(folder) == []


@pytest.mark.parametrize("suffix", ["zip", "tgz", "tar.gz"])
def test_archives_in_archives(tmp_path, scratch, suffix):
    def pack(name, parts):
        path = (write_zip if name.endswith("zip") else write_tar)(tmp_path / "part", parts)
        return path.read_bytes()

    inner = pack("x.zip", {"c/three.txt": b"Three."})
    middle = pack("x.tgz", {"two.txt": b"Two.", "in.zip": inner})
    (tmp_path / f"a.{suffix}").write_bytes(pack(f"a.{suffix}", {"one.md": b"One.", "in.tgz": middle}))
    texts, left_out = read(tmp_path / f"a.{suffix}")
    assert sorted(texts) == ["One.", "Three.", "Two."] and left_out == {}
    outer = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / "deep.zip").write_bytes(pack("x.zip", {"zero.txt": b"Zero.", f"a.{suffix}": outer}))
    texts, left_out = read(tmp_path / "deep.zip")
    assert sorted(texts) == ["One.", "Two.", "Zero."] and "3 deep" in next(iter(left_out.values()))


def test_an_archive_of_itself_and_thousands(tmp_path, scratch, monkeypatch):
    inner = write_zip(tmp_path / "i.zip", {"a.txt": TEXT}).read_bytes()
    write_zip(tmp_path / "a.zip", {f"{number:04}.zip": inner for number in range(30)})
    monkeypatch.setattr(archives, "MAX_ARCHIVES", 20)
    texts, left_out = read(tmp_path / "a.zip")
    assert len(texts) == 20 and len(left_out) == 10 and "21th" in left_out["a.zip/0020.zip"]


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_a_bomb(tmp_path, scratch, monkeypatch, kind):
    monkeypatch.setattr(archives, "RATIO_FROM", 1 << 20)
    zeros = bytes(3 << 20)
    path = (write_zip if kind == "zip" else write_tar)(tmp_path / f"a.{kind}", {"a.txt": zeros})
    with pytest.raises(UserError, match="100 times its size"):
        Ingest(path)
    packed = write_zip(tmp_path / "part", {"a.txt": zeros[: 1 << 19]}).read_bytes()
    write_zip(tmp_path / "b.zip", {f"{number}.zip": packed for number in range(9)})
    _, left_out = read(tmp_path / "b.zip")
    assert sum("100 times" in reason for reason in left_out.values()) >= 6, "all that lies within counts together"


def test_a_member_that_states_a_smaller_size(tmp_path, scratch):
    content = write_zip(tmp_path / "a.zip", {"a.txt": bytes(1 << 20)}).read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace((1 << 20).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    with pytest.raises(UserError, match="unpacked"):
        Ingest(tmp_path / "a.zip")


def test_links_and_names_that_lead_outside(tmp_path, scratch):
    secret = tmp_path / "secret.txt"
    secret.write_text("Private.")
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, str(secret))
        archive.writestr("mine.txt", MINE)
        archive.writestr("/abs.txt", "Absolute.")
        archive.writestr("../../up.txt", "Up.")
    texts, left_out = read(tmp_path / "a.zip")
    assert sorted(texts) == ["Absolute.", "Up.", MINE] and left_out == {"a.zip/link.txt": "a link in an archive"}
    with tarfile.open(tmp_path / "b.tgz", "w:gz") as archive:
        for name, kind in (("s.txt", tarfile.SYMTYPE), ("h.txt", tarfile.LNKTYPE), ("p", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
        for name in ("../up.txt", "mine.txt"):
            member = tarfile.TarInfo(name)
            member.size = len(TEXT)
            archive.addfile(member, io.BytesIO(TEXT))
    texts, left_out = read(tmp_path / "b.tgz")
    assert texts == [MINE] and len(left_out) == 4
    assert left_out["b.tgz/../up.txt"] == "it leads out of the archive"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zip", "b.tgz", "scratch", "secret.txt"]


def test_a_disk_that_is_too_small(tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: Usage())
    with pytest.raises(UserError, match="free; set TMPDIR"):
        Ingest(write_zip(tmp_path / "a.zip", {"a.txt": TEXT}))


class Usage:
    free = 3


@pytest.mark.parametrize("kind", ["zip", "tgz", "tar"])
def test_damage_is_an_error_in_one_line(tmp_path, scratch, kind):
    parts = {"a.txt": TEXT, "b/c.md": TEXT * 9}
    whole = (write_zip if kind == "zip" else write_tar)(tmp_path / "whole", parts).read_bytes()
    dice = random.Random(29)
    for number in range(60):
        content = bytearray(whole[: dice.randrange(len(whole))] if number % 2 else whole)
        for _ in range(dice.choice((1, 3, 30)) if content else 0):
            content[dice.randrange(len(content))] = dice.randrange(256)
        path = tmp_path / f"a.{kind}"
        path.write_bytes(content)
        try:
            read(path)
        except UserError as error:
            assert "\n" not in str(error) and str(path) in str(error)
