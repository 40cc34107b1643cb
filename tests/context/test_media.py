"""Media become references; what cannot be read is named, never skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from nanobot.context import user_message
from nanobot.context._media import image_type
from nanobot.errors import UsageError
from nanobot.messages import MAX_IMAGE_BYTES, FilePart, ImagePart, TextPart, UserMessage

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.mark.parametrize(
    ("first_bytes", "expected"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0JFIF", "image/jpeg"),
        (b"GIF89a....", "image/gif"),
        (b"GIF87a....", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\x10\0\0\0WAVEfmt ", ""),
        (b"<svg xmlns=", ""),
        (b"%PDF-1.7", ""),
        (b"BM\0\0", ""),
        (b"", ""),
    ],
)
def test_an_image_is_told_by_its_first_bytes(first_bytes: bytes, expected: str) -> None:
    assert image_type(first_bytes) == expected


async def test_images_stand_before_the_text_and_other_files_behind_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "photo.dat").write_bytes(PNG)
    (tmp_path / "fake.png").write_text("no image at all")
    paths = [str(tmp_path / name) for name in ("notes.txt", "photo.dat", "fake.png")]
    message = await user_message("what is this?", paths, timestamp="now")
    assert message == UserMessage(
        (
            ImagePart(paths[1], "image/png"),
            TextPart("what is this?"),
            FilePart(paths[0], "text/plain"),
            FilePart(paths[2], "image/png"),
        ),
        media=tuple(paths),
        timestamp="now",
    )


async def test_without_media_the_message_is_plain_text() -> None:
    assert await user_message("hi") == UserMessage("hi")
    assert await user_message("hi", []) == UserMessage("hi")
    assert await user_message("broken \ud83d") == UserMessage("broken \N{REPLACEMENT CHARACTER}")


async def test_media_without_words_have_no_text_part(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    message = await user_message("", [tmp_path / "a.png"])
    assert message.content == (ImagePart(str(tmp_path / "a.png"), "image/png"),)


async def test_relative_paths_are_kept_as_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    message = await user_message("x", ["a.txt", "~/a.txt"])
    assert [Path(path).name for path in message.media] == ["a.txt", "a.txt"]
    assert all(Path(path).is_absolute() for path in message.media)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing.png", "No such file"),
        (".", "not a regular file"),
        ("", "not a regular file"),
        ("nul\0byte", "is not a path"),
        ("https://x.org/a.png", "not URLs"),
        ("data:image/png;base64,AAAA", "not URLs"),
        ("fifo", "not a regular file"),
        ("lone\udcff", "not Unicode"),
        ("~nobody-by-that-name/x", "is not a path"),
        (5, "is not a path"),
    ],
)
async def test_what_cannot_be_attached_is_named_with_the_reason(
    path: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "good.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    with trio.fail_after(30):
        with pytest.raises(UsageError) as caught:
            await user_message("x", ["good.txt", path])
    assert said in str(caught.value)
    assert repr(path) in str(caught.value)


async def test_one_path_instead_of_a_list_is_pointed_out() -> None:
    with pytest.raises(UsageError, match=r"must be a list.*\['a\.png'\]"):
        await user_message("x", "a.png")


@pytest.mark.parametrize(
    ("size", "kind"), [(MAX_IMAGE_BYTES, ImagePart), (MAX_IMAGE_BYTES + 1, None)]
)
async def test_an_image_that_no_model_would_be_shown_is_refused(
    tmp_path: Path, size: int, kind: type[ImagePart] | None
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    os.truncate(path, size)
    if kind is None:
        with pytest.raises(UsageError, match=r"a\.png.* 20,971,521 bytes"):
            await user_message("x", [path])
    else:
        assert type((await user_message("x", [path])).content[0]) is kind
