"""Images are read where they are files, and a picture that is gone does not spoil a history."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from nanobot.messages import (
    AssistantMessage,
    ImagePart,
    Message,
    TextPart,
    ToolMessage,
    UserMessage,
)
from nanobot.providers._images import (
    EncodedImage,
    find_image,
    is_web_image,
    read_images,
    unseen_image,
)

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16


def encoded(media_type: str, content: bytes) -> EncodedImage:
    return EncodedImage(media_type, base64.b64encode(content).decode())


async def test_files_are_read_by_path_and_by_url_and_bytes_tell_their_type(tmp_path: Path) -> None:
    by_bytes, by_name, unnamed = (tmp_path / name for name in ("a.txt", "pic ture.svg", "x"))
    by_bytes.write_bytes(PNG)
    by_name.write_text("<svg/>")
    unnamed.write_bytes(b"RIFF\0\0\0\0WEBPVP8 ")
    messages: list[Message] = [
        UserMessage((TextPart("look"), ImagePart(str(by_bytes)), ImagePart("https://a.example/b"))),
        AssistantMessage("I look."),
        ToolMessage("1", "shoot", (ImagePart(by_name.as_uri()), ImagePart(str(unnamed)))),
        UserMessage("and a plain text"),
    ]
    assert await read_images(messages) == {
        str(by_bytes): encoded("image/png", PNG),
        by_name.as_uri(): encoded("image/svg+xml", b"<svg/>"),
        str(unnamed): encoded("image/webp", unnamed.read_bytes()),
    }


async def test_a_media_type_that_was_given_is_kept(tmp_path: Path) -> None:
    picture = tmp_path / "x"
    picture.write_bytes(b"bytes")
    images = await read_images([UserMessage((ImagePart(str(picture), "image/avif"),))])
    assert images[str(picture)].data_url.startswith("data:image/avif;base64,")


async def test_an_image_that_is_gone_or_too_large_is_left_out(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(20 * 1024 * 1024 + 1)
    sources = [str(tmp_path / "gone.png"), str(large), str(tmp_path), "nul\0name", "~nobody-here/x"]
    parts = tuple(map(ImagePart, sources))
    assert await read_images([UserMessage(parts)]) == {}
    assert [find_image(part, {}) for part in parts] == [None] * len(parts)


@pytest.mark.parametrize(
    ("url", "image"),
    [
        ("data:image/png;base64,AAAA", EncodedImage("image/png", "AAAA")),
        ("DATA:image/PNG;charset=x;BASE64,AAAA", EncodedImage("image/png", "AAAA")),
        ("data:image/gif;base64,AA%3D%3D", EncodedImage("image/gif", "AA==")),
        ("data:image/svg+xml,%3Csvg%2F%3E", encoded("image/svg+xml", b"<svg/>")),
        ("data:;base64,AAAA", EncodedImage("image/png", "AAAA")),
        ("data:image/png;base64,AA", None),
        ("data:image/png;base64,??", None),
        ("data:image/png;base64,ä", None),
        ("data:image/png", None),
    ],
)
def test_a_data_url_is_taken_apart(url: str, image: EncodedImage | None) -> None:
    assert find_image(ImagePart(url), {}) == image


def test_what_cannot_be_shown_is_named_but_for_its_bytes() -> None:
    assert unseen_image(ImagePart("/a.png")) == "[image not available: /a.png]"
    assert unseen_image(ImagePart("data:image/png;base64,AAAA")) == "[image not available]"
    assert len(unseen_image(ImagePart("x" * 10_000))) < 300


def test_only_the_web_is_the_web() -> None:
    assert is_web_image("HTTPS://a.example/b")
    assert not is_web_image("/http/x")
    assert not is_web_image("file:///x")
