"""MEMORY.md is read as it is and replaced whole."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from nanobot.errors import InvalidArgument, StoreError
from nanobot.memory import Notes
from tests.memory.synced import synced_sizes
from tests.special_files import any_special_file, harmless_special_file, make_special


def test_a_file_that_is_not_there_says_nothing_and_is_not_made(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "memory")
    assert notes.read() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "Alice likes tea.\n", "\r\n mixed \n", "名前 🐈", "lone \ud800"]
)
def test_what_is_written_is_read(tmp_path: Path, text: str) -> None:
    notes = Notes(tmp_path / "memory")
    notes.write("something before")
    notes.write(text)
    assert notes.read() == text.replace("\ud800", "\ufffd")
    assert [path.name for path in (tmp_path / "memory").iterdir()] == ["MEMORY.md"]


def test_what_is_written_is_on_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = synced_sizes(monkeypatch)
    Notes(tmp_path).write("x" * 12_345)
    assert synced[0] == 12_345


def test_what_an_editor_left_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "MEMORY.md").write_bytes(b"\xef\xbb\xbfcaf\xe9")
    assert Notes(tmp_path).read() == "caf\ufffd"


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="memory is text, not bytes"):
        Notes(tmp_path).write(b"x")  # type: ignore[arg-type]  # the point


def test_a_file_keeps_its_mode_and_a_link_its_place(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.md"
    real.write_text("old")
    real.chmod(0o640)
    (tmp_path / "MEMORY.md").symlink_to(real)
    Notes(tmp_path).write("new")
    assert (tmp_path / "MEMORY.md").is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "MEMORY.md").mkdir()
    notes = Notes(tmp_path)
    with pytest.raises(
        StoreError, match=r"MEMORY\.md cannot be read: not a regular file but a folder"
    ):
        notes.read()
    with pytest.raises(StoreError, match=r"MEMORY\.md cannot be written"):
        notes.write("x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MEMORY.md"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"MEMORY\.md cannot be written: .*file is not a folder"):
        Notes(tmp_path / "file").write("x")
    assert Notes(tmp_path / "file").read() == ""


@any_special_file
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    make_special(tmp_path / "MEMORY.md", kind)
    with pytest.raises(StoreError, match=rf"MEMORY\.md cannot be read: not a .* but {kind}"):
        Notes(tmp_path).read()


@harmless_special_file
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    make_special(tmp_path / "MEMORY.md", kind)
    before = (tmp_path / "MEMORY.md").stat().st_mode
    with pytest.raises(StoreError, match=rf"MEMORY\.md cannot be written: not a .* but {kind}"):
        Notes(tmp_path).write("x")
    assert (tmp_path / "MEMORY.md").stat().st_mode == before
    assert [path.name for path in tmp_path.iterdir()] == ["MEMORY.md"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "memory")
    notes.write("old")
    (tmp_path / "memory").chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        notes.write("new")
    assert notes.read() == "old"


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    texts = {letter * 100_000 for letter in "ab"}
    notes.write("a" * 100_000)

    def write() -> None:
        for _ in range(30):
            for text in texts:
                notes.write(text)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert notes.read() in texts
    writer.join()
