"""`read_file`: numbered lines, images by reference, and a clear word for everything else."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import ToolError
from nanobot.messages import ImagePart, TextPart, ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, Workspace, execute
from nanobot.tools._threads import FILE_THREADS, in_file_thread
from nanobot.tools.builtin import read_file
from nanobot.tools.builtin.read_file import Window


async def read(context: RunContext, path: str = "a.txt", **more: int) -> ToolResult:
    arguments = ", ".join(
        [f'"path": "{path}"', *(f'"{name}": {value}' for name, value in more.items())]
    )
    return await execute(
        ToolCall("1", "read_file", f"{{{arguments}}}"), Toolset([read_file]), context
    )


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"one\ntwo\n", "1| one\n2| two\n\n(End of file \u2014 2 lines total)"),
        (b"one\ntwo", "1| one\n2| two\n\n(End of file \u2014 2 lines total)"),
        (b"one\r\ntwo\r\n", "1| one\n2| two\n\n(End of file \u2014 2 lines total)"),
        (b"\n\n", "1| \n2| \n\n(End of file \u2014 2 lines total)"),
        (b"", "(End of file \u2014 0 lines total)"),
        (b"\xef\xbb\xbfcaf\xc3\xa9", "1| café\n\n(End of file \u2014 1 lines total)"),
        ("über\nö".encode("utf-16"), "1| über\n2| ö\n\n(End of file \u2014 2 lines total)"),
        (
            b"caf\xe9",
            "1| caf\ufffd\n\n(End of file \u2014 1 lines total)\n(Some bytes are no UTF-8 text and are shown as \ufffd.)",
        ),
        ("really \ufffd".encode(), "1| really \ufffd\n\n(End of file \u2014 1 lines total)"),
        ("a\u2028b\x0cc".encode(), "1| a\u2028b\x0cc\n\n(End of file \u2014 1 lines total)"),
    ],
    ids=range(10),
)
async def test_text_comes_as_numbered_lines(
    content: bytes, shown: str, context: RunContext, root: Path
) -> None:
    (root / "a.txt").write_bytes(content)
    assert (await read(context)).message.content == shown


async def test_a_part_of_a_file_says_how_to_go_on(context: RunContext, root: Path) -> None:
    (root / "a.txt").write_text("".join(f"line {n}\n" for n in range(1, 5001)))
    content = str((await read(context, offset=10, limit=2)).message.content)
    assert (
        content
        == "10| line 10\n11| line 11\n\n(Showing lines 10-11 of 5000. Use offset=12 to continue.)"
    )
    content = str((await read(context)).message.content)
    assert content.endswith(
        "2000| line 2000\n\n(Showing lines 1-2000 of 5000. Use offset=2001 to continue.)"
    )
    content = str((await read(context, offset=5000)).message.content)
    assert content == "5000| line 5000\n\n(End of file \u2014 5000 lines total)"


async def test_an_offset_past_the_end_says_so(context: RunContext, root: Path) -> None:
    (root / "a.txt").write_text("1\n2\n3")
    result = await read(context, offset=4)
    assert result.message.content == "Error: offset 4 is past the end: a.txt has 3 lines."
    assert "`offset`: expected `int` >= 1" in str((await read(context, offset=0)).error)
    assert "`limit`: expected `int` <= 2000" in str((await read(context, limit=2001)).error)


async def test_a_line_without_end_is_cut_readably(context: RunContext, root: Path) -> None:
    (root / "a.txt").write_text("é" * 5_000_000 + "\nshort\n")
    content = str((await read(context)).message.content)
    first, second, _, footer = content.split("\n")
    assert (
        first
        == "1| " + "é" * 16_000 + " … (a line of 10,000,000 bytes; the rest of it is not shown)"
    )
    assert second == "2| short"
    assert footer == "(End of file \u2014 2 lines total)"


async def test_a_result_has_at_most_128000_characters_and_is_never_cut_in_the_middle(
    context: RunContext, root: Path
) -> None:
    (root / "a.txt").write_text(("x" * 999 + "\n") * 1000)
    content = str((await read(context)).message.content)
    assert 126_000 < len(content) < 128_200
    assert content.endswith("\n\n(Showing lines 1-127 of 1000. Use offset=128 to continue.)")
    assert list(root.iterdir()) == [root / "a.txt"]  # noqa: ASYNC240 - two names
    content = str((await read(context, offset=128, limit=1)).message.content)
    assert content.startswith("128| xxx")


PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100


@pytest.mark.parametrize(
    ("first", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 9, "image/jpeg"),
        (b"GIF89a" + b"\0" * 9, "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
    ],
    ids=["png", "jpeg", "gif", "webp"],
)
async def test_images_are_shown_by_reference_whatever_they_are_called(
    first: bytes, media_type: str, context: RunContext, root: Path
) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "picture.dat").write_bytes(first)
    (root / "link").symlink_to("sub")
    result = await read(context, "link/picture.dat", offset=3)
    assert result.message.content == (
        TextPart(f"link/picture.dat: {media_type}, {len(first)} bytes."),
        ImagePart(str(root / "sub" / "picture.dat"), media_type),
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8baa", "a gzip archive of 4 bytes. Only text, documents and images can be read."),
        (b"PK\x03\x04aa", "a ZIP archive or an Office document of 6 bytes"),
        (b"\x7fELF\0\0", "a program (ELF) of 6 bytes"),
        (b"RIFF\x10\0\0\0WAVE", "WAV audio or AVI video of 12 bytes"),
        (b"text and a \0", "a binary file of 12 bytes"),
        (b"BM\0\0", "a BMP image of 4 bytes"),
    ],
    ids=range(6),
)
async def test_what_is_neither_text_nor_image_is_named(
    content: bytes, said: str, context: RunContext, root: Path
) -> None:
    (root / "a.txt").write_bytes(content)
    assert said in str((await read(context)).error)


@pytest.mark.parametrize("content", [b"BMW is a car", b"MZ", b"ID3 of three", b"II*"])
async def test_text_that_begins_like_a_binary_file_is_text(
    content: bytes, context: RunContext, root: Path
) -> None:
    (root / "a.txt").write_bytes(content)
    assert (await read(context)).ok


async def test_files_that_are_too_large_are_refused(context: RunContext, root: Path) -> None:
    for name, first, size in (("a.txt", b"text", 100 * 2**20 + 1), ("a.png", PNG, 20 * 2**20 + 1)):
        with (root / name).open("wb") as file:
            file.write(first)
            file.write(b"\n" * 9000)
            file.truncate(size)
        assert f"{name} has {size:,} bytes" in str((await read(context, name)).error)


async def test_a_folder_is_told_apart(context: RunContext) -> None:
    assert (await read(context, ".")).error == ". is a folder, not a file."


async def test_a_file_without_a_size_is_read(root: Path) -> None:
    anywhere = RunContext(confined=Workspace(root, restrict=False))
    content = str((await read(anywhere, "/proc/self/status")).message.content)
    assert content.startswith("1| Name:")


async def test_a_cancelled_read_ends_before_it_reads_on(context: RunContext, root: Path) -> None:
    (root / "a.txt").write_bytes(b"\n" * (90 * 2**20))
    release = threading.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(FILE_THREADS):  # so that the read has to wait for a thread
            nursery.start_soon(in_file_thread, release.wait)
        await trio.testing.wait_all_tasks_blocked()
        scope = trio.CancelScope()
        nursery.start_soon(cancel_when_blocked, scope, release)
        with scope:
            await read(context)
        assert scope.cancelled_caught
    threads = threading.active_count()
    with trio.move_on_after(0.001) as scope:
        await read(context)
    assert scope.cancelled_caught
    assert threading.active_count() <= threads + 1


async def cancel_when_blocked(scope: trio.CancelScope, release: threading.Event) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
    release.set()


@given(
    text=st.text(alphabet="ab\n\ré\ufeff", max_size=60),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    offset=st.integers(1, 12),
    limit=st.integers(1, 6),
)
def test_the_same_lines_come_out_however_the_bytes_come_in(
    text: str, sizes: list[int], offset: int, limit: int
) -> None:
    content, position, turn = text.encode(), 0, 0
    window = Window(offset, limit)
    while position < len(content):
        size = sizes[turn % len(sizes)]
        window.feed(content[position : position + size])
        position, turn = position + size, turn + 1
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    wanted = [
        f"{offset + n}| {line.removesuffix(chr(13))}"
        for n, line in enumerate(lines[offset - 1 : offset - 1 + limit])
    ]
    if offset > max(len(lines), 1):
        with pytest.raises(ToolError, match=f"past the end: it has {len(lines)} lines"):
            window.close("it")
        return
    *shown, footer = window.close("it").split("\n")
    assert shown == [*wanted, *([""] if wanted else [])]
    last = offset + len(wanted) - 1
    assert footer == (
        f"(End of file \u2014 {len(lines)} lines total)"
        if last >= len(lines)
        else f"(Showing lines {offset}-{last} of {len(lines)}. Use offset={last + 1} to continue.)"
    )
