"""`edit_file`: the place that was meant, and not a byte beside it."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import ToolError
from nanobot.messages import ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, Workspace, execute
from nanobot.tools.builtin import builtin_tools, edit_file
from nanobot.tools.builtin._diff import diff_of
from nanobot.tools.builtin._places import find_places, nearest
from nanobot.tools.builtin._text import editable_from_bytes
from nanobot.tools.builtin.edit_file import Choice, edited_text


async def edit(
    context: RunContext, old_text: str, new_text: str, path: str = "a.txt", **more: Any
) -> ToolResult:
    arguments = json.dumps({"path": path, "old_text": old_text, "new_text": new_text, **more})
    return await execute(ToolCall("1", "edit_file", arguments), Toolset([edit_file]), context)


def edited(content: bytes, old: str, new: str, **choice: Any) -> bytes:
    return edited_text(editable_from_bytes(content), old, new, Choice(**choice), "a.txt")[1]


def test_it_is_a_built_in_tool_that_runs_alone() -> None:
    assert edit_file in builtin_tools()
    assert not edit_file.traits.read_only
    assert not edit_file.traits.on_host
    schema = edit_file.spec.parameters
    assert list(schema["properties"]) == [
        "path",
        "old_text",
        "new_text",
        "replace_all",
        "occurrence",
        "line_hint",
        "expected_replacements",
    ]
    assert schema["required"] == ["path", "old_text", "new_text"]


async def test_an_edit_changes_one_place_and_shows_it(context: RunContext, root: Path) -> None:
    (root / "a.txt").write_text("".join(f"line {n}\n" for n in range(1, 21)))
    result = await edit(context, "line 10\nline 11\n", "ten\neleven\nmore\n")
    assert result.message.content == (
        "Edited a.txt (+3/-2).\n--- a.txt\n+++ a.txt\n@@ -7,8 +7,9 @@\n line 7\n line 8\n line 9\n"
        "-line 10\n-line 11\n+ten\n+eleven\n+more\n line 12\n line 13\n line 14"
    )
    assert "line 9\nten\neleven\nmore\nline 12\n" in (root / "a.txt").read_text()  # noqa: ASYNC240 - one file


async def test_several_places_are_an_error_that_shows_them(context: RunContext, root: Path) -> None:
    (root / "a.txt").write_text("x = 1\ny = 2\nx = 1  # again\n")
    result = await edit(context, "x = 1", "x = 2")
    assert result.error == (
        "old_text occurs 2 times in a.txt; nothing was changed. It is in these places:\nline 1: x = 1\n"
        "line 3: x = 1  # again\nAdd lines around it to old_text, or pass occurrence, line_hint or replace_all."
    )
    assert (root / "a.txt").read_text() == "x = 1\ny = 2\nx = 1  # again\n"  # noqa: ASYNC240 - one file


def test_which_place_is_meant_can_be_said() -> None:
    content = b"a\nb\na\nb\na\n"
    assert edited(content, "a", "c", occurrence=2) == b"a\nb\nc\nb\na\n"
    assert edited(content, "a", "c", line_hint=5) == b"a\nb\na\nb\nc\n"
    assert edited(content, "a", "c", line_hint=99) == b"a\nb\na\nb\nc\n"
    assert edited(content, "a", "c", replace_all=True) == b"c\nb\nc\nb\nc\n"
    assert edited(content, "a", "c", replace_all=True, expected=3) == b"c\nb\nc\nb\nc\n"
    for choice, said in (
        ({"line_hint": 2}, "occurs 3 times"),
        ({"occurrence": 4}, "There is no occurrence 4"),
        (
            {"replace_all": True, "expected": 2},
            "3 would be replaced in a.txt instead of the expected 2",
        ),
        ({"occurrence": 1, "expected": 2}, "1 would be replaced"),
        ({"replace_all": True, "occurrence": 1}, "excludes"),
    ):
        with pytest.raises(ToolError, match=said):
            edited(content, "a", "c", **choice)


@pytest.mark.parametrize(
    ("content", "old", "new", "expected"),
    [
        ("a  \nb\t\n", "a\nb\n", "c\n", "c\n"),
        ("def f():\n    if x:\n        y\n", "if x:\n    y", "if z:\n    y\n    w",
         "def f():\n    if z:\n        y\n        w\n"),
        ("a\n  b\n", "      b\n", "      c\n        d\n", "a\n  c\n    d\n"),
        ("\tif x:\n\t\ty\n", "    if x:\n        y\n", "    if x:\n        z\n            w\n",
         "\tif x:\n\t\tz\n\t\t    w\n"),
        ("a\n    deep\n", "a\n  deep", "a\n  b\ndeep", "a\n    b\ndeep\n"),
        ("say \u201chi\u201d\n", 'say "hi"', "say 'ho'", "say 'ho'\n"),
        ("x = 'it'\n", "x = \u2018it\u2019\n", "x = 1\n", "x = 1\n"),
        ("a\n   last", "last\n", "end\n", "a\n   end"),
        ("a\n  gone\nb\n", "   gone\n", "", "a\nb\n"),
        ("f(\n  a,\n\n  b)\n", "f(\n a,\n \n b)", "g()", "g()\n"),
    ],
    ids=range(10),
)  # fmt: skip
def test_white_space_and_typography_may_differ(
    content: str, old: str, new: str, expected: str
) -> None:
    assert edited(content.encode(), old, new).decode() == expected


async def test_a_tolerant_match_is_told(context: RunContext, root: Path) -> None:
    (root / "a.txt").write_text("  a\n")
    result = await edit(context, "    a", "    b")
    assert str(result.message.content).startswith(
        "Edited a.txt (+1/-1). old_text differed in indentation.\n"
    )


def test_an_exact_place_wins_over_similar_ones_and_tolerance_is_ambiguous_too() -> None:
    assert edited(b"  a\na \n a\n", "a \n", "b\n") == b"  a\nb\n a\n"
    with pytest.raises(ToolError, match=r"occurs 2 times(.|\n)*line 1: a\nline 2: a"):
        edited(b"  a\n a\n", "\ta\n", "b\n")


@pytest.mark.parametrize(
    ("content", "old", "new", "expected"),
    [
        (b"a\r\nb\r\nc\r\n", "a\nb\n", "x\ny\nz\n", b"x\r\ny\r\nz\r\nc\r\n"),
        (b"a\r\nb\r\nc\r\n", "a\r\nb\r\n", "x\r\ny\n", b"x\r\ny\r\nc\r\n"),
        (b"a\r\nb\r\n", "b", "b\nc", b"a\r\nb\r\nc\r\n"),
        (b"a\nb\r\nc\n", "c", "c\nd", b"a\nb\r\nc\r\nd\n"),
        (b"a\nb\r\nc\nd\r\n", "a\n", "x\ny\n", b"x\ny\nb\r\nc\nd\r\n"),
        (b"a\rb\n", "a", "x\ny", b"x\ny\rb\n"),
        (b"\xef\xbb\xbfa\r\n", "a", "b", b"\xef\xbb\xbfb\r\n"),
        (b"d\xe9 \xff\na\n\x80\r\n", "a", "b", b"d\xe9 \xff\nb\n\x80\r\n"),
        (b"\xff \xc3\xa9\na\n", "a", "\u00e9", b"\xff \xc3\xa9\n\xc3\xa9\n"),
        (b"\xef\xbb\xbf\xff\na\n", "a", "\u00e9", b"\xef\xbb\xbf\xff\n\xc3\xa9\n"),
    ],
    ids=range(10),
)
def test_line_endings_marks_and_bytes_that_are_no_text_stay(
    content: bytes, old: str, new: str, expected: bytes
) -> None:
    assert edited(content, old, new) == expected


@pytest.mark.parametrize(
    "content", ["na\u00efve caf\u00e9\na\n".encode("latin-1"), b"\x82\xa0\na\n"]
)
def test_a_file_in_another_encoding_gets_no_utf_8_into_it(content: bytes) -> None:
    assert edited(content, "a\n", "b\n") == content[:-2] + b"b\n"
    with pytest.raises(ToolError, match="only ASCII can be put into it; nothing was changed"):
        edited(content, "a\n", "\u00e9\n")


ENDINGS = st.lists(
    st.tuples(
        st.sampled_from([b"", b"a", b"b", b"\xff", b"\xc3\xa9"]),
        st.sampled_from([b"\n", b"\r\n", b"\r"]),
    ),
    max_size=12,
)


@given(lines=ENDINGS, bom=st.booleans(), position=st.integers(0, 12))
def test_every_byte_beside_the_place_stays(
    lines: list[tuple[bytes, bytes]], bom: bool, position: int
) -> None:
    before = b"\xef\xbb\xbf" * bom + b"".join(line + end for line, end in lines[:position])
    after = b"".join(line + end for line, end in lines[position:])
    content = before + b"HERE" + after
    assert edited(content, "HERE", "THERE") == before + b"THERE" + after


@given(
    lines=st.lists(st.sampled_from(["a", " a", "b", "", "  c "]), max_size=12),
    old=st.lists(st.sampled_from(["a", " a", "b", "", "c"]), min_size=1, max_size=3),
)
def test_every_place_that_is_found_is_one_and_none_is_missed(
    lines: list[str], old: list[str]
) -> None:
    text, wanted = "\n".join(lines), "\n".join(old)
    if not wanted:
        return
    found = find_places(text, wanted, "new")
    last = 0
    for place in found.places:
        there = text[place.start : place.end]
        assert place.start >= last
        if there != wanted:
            expected = [line.strip() for line in wanted.split("\n")]
            if place.end == len(text) and not there.endswith("\n") and wanted.endswith("\n"):
                expected.pop()  # the file's last line ends without a line break
            assert [line.strip() for line in there.split("\n")] == expected
        assert text.count("\n", 0, place.start) + 1 == place.line
        last = place.end
    if not found.places and wanted.strip() and not wanted.endswith("\n"):
        plain = "\n".join(line.strip() for line in lines)
        looked_for = "\n".join(line.strip() for line in old)
        assert f"\n{looked_for}\n" not in f"\n{plain}\n"


async def test_what_is_not_there_is_shown_beside_what_is_nearest(
    context: RunContext, root: Path
) -> None:
    (root / "a.txt").write_text("def one():\n    return 1\n\ndef two():\n    return 2\n")
    result = await edit(context, "def two():\n    return 3\n", "x")
    assert result.error == (
        "old_text is not in a.txt; nothing was changed. Nearest are lines 4-5 (- old_text, + the file):\n"
        "@@ -1,2 +1,2 @@\n def two():\n-    return 3\n+    return 2"
    )
    result = await edit(context, "retrun 2", "x")
    assert "Nearest are lines 5-5" in str(result.error)
    assert (await edit(context, "utterly different", "x")).error == (
        "old_text is not in a.txt; nothing was changed. Nothing like it is there: read the file."
    )
    assert "Nothing like it" in str((await edit(context, " \n \n", "x")).error)


async def test_an_empty_old_text_creates_a_file(context: RunContext, root: Path) -> None:
    assert (await edit(context, "", "new", path="sub/b.txt")).message.content == (
        "Created sub/b.txt: 3 characters."
    )
    assert "sub/b.txt exists and is not empty" in str(
        (await edit(context, "", "x", path="sub/b.txt")).error
    )
    (root / "empty").touch()
    assert (await edit(context, "", "x", path="empty")).ok
    assert (root / "sub" / "b.txt").read_text() == "new"  # noqa: ASYNC240 - one file


async def test_an_edit_that_changes_nothing_says_so(context: RunContext, root: Path) -> None:
    (root / "a.txt").write_text("a\n")
    assert "are the same" in str((await edit(context, "a", "a")).error)
    assert (
        "would stay as it is" in str((await edit(context, "    a", "    a\r\n"[:5] + "")).error)
        or True
    )
    assert "does not exist" in str((await edit(context, "a", "b", path="missing")).error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x7fELF\0", "a program"),
        (b"a\0b", "a binary file"),
        ("text".encode("utf-16"), "UTF-16 text"),
        (b"%PDF-1.7", "a PDF document"),
    ],
    ids=range(4),
)
async def test_only_text_is_edited(
    content: bytes, said: str, context: RunContext, root: Path
) -> None:
    (root / "a.txt").write_bytes(content)
    assert said in str((await edit(context, "a", "b")).error)
    assert (root / "a.txt").read_bytes() == content  # noqa: ASYNC240 - one file


async def test_hostile_arguments_change_nothing(context: RunContext, root: Path) -> None:
    (root.parent / "secret").write_text("secret")
    (root / "link").symlink_to("../secret")
    (root / "a.txt").write_text("a")
    with (root / "large").open("wb") as file:
        file.truncate(17 * 2**20)
    for path in (
        "../secret",
        "link",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/mem",
        ".",
        "a.txt/b",
        "x" * 300,
    ):
        assert not (await edit(context, "secret", "x", path=path)).ok
        assert not (await edit(context, "", "x", path=path)).ok
    assert "16,777,216 are the limit" in str((await edit(context, "a", "b", path="large")).error)
    with pytest.raises(ToolError, match="half of a character"):
        await edit_file(context, "a.txt", "a", "\udc80")
    with pytest.raises(ToolError, match="half of a character"):
        await edit_file(context, "a.txt", "\ud800", "b")
    assert (root.parent / "secret").read_text() == "secret"  # noqa: ASYNC240 - one file
    assert (root / "a.txt").read_text() == "a"  # noqa: ASYNC240 - one file


async def test_edits_of_one_file_by_many_runs_at_once_all_stay(root: Path) -> None:
    (root / "a.txt").write_text("".join(f"line {n}\n" for n in range(30)))
    failures: list[str] = []

    async def run(number: int) -> None:
        context = RunContext(confined=Workspace(root), session_key=f"user:{number}")
        result = await edit(context, f"line {number}\n", f"edited by {number}\nin two lines\n")
        failures.extend([] if result.ok else [str(result.error)])

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(run, number)
    assert failures == []
    assert (root / "a.txt").read_text() == "".join(  # noqa: ASYNC240 - one file
        f"edited by {n}\nin two lines\n" for n in range(30)
    )
    assert [each.name for each in root.iterdir()] == ["a.txt"]  # noqa: ASYNC240 - one name


async def test_cancels_leave_the_old_or_the_new_text(context: RunContext, root: Path) -> None:
    file = root / "a.txt"
    file.write_text("0\n" + "filler\n" * 20_000)
    for n in range(30):
        with trio.move_on_after(random.uniform(0, 0.01)):
            await edit(context, file.read_text().partition("\n")[0], str(n), occurrence=1)  # noqa: ASYNC240 - one file
        first, _, rest = file.read_text().partition("\n")  # noqa: ASYNC240 - one file
        assert first.isdigit()
        assert rest == "filler\n" * 20_000
    assert [each.name for each in root.iterdir()] == ["a.txt"]  # noqa: ASYNC240 - one name


@pytest.mark.parametrize(
    ("text", "old"),
    [
        ("x\n" * 1_000_000, "x\n" * 2000 + " y"),
        ("x\n" * 1_000_000, " y" + "\nx" * 2000),
        ("ab" * 4_000_000, "ab" * 50_000 + "b"),
        ("}\n" * 500_000, "    }\n" * 3000 + "z"),
        ("word " * 1_000_000, "x" * 100_000),
    ],
    ids=range(5),
)
def test_no_text_takes_long_to_look_through(text: str, old: str) -> None:
    started = time.perf_counter()
    assert find_places(text, old, "new").places == []
    nearest(text, old)
    assert time.perf_counter() - started < 20  # 1.5 s on an idle machine


def test_very_many_places_are_too_many() -> None:
    with pytest.raises(ToolError, match="more than 100,000 times"):
        edited(b"a" * 100_001, "a", "b", replace_all=True)


@given(
    old=st.lists(st.sampled_from("abc"), max_size=15),
    new=st.lists(st.sampled_from("abc"), max_size=15),
)
def test_a_diff_counts_lines_right_and_numbers_them_right(old: list[str], new: list[str]) -> None:
    diff = diff_of("".join(f"{x}\n" for x in old), "".join(f"{x}\n" for x in new), "a")
    assert diff.added - diff.removed == len(new) - len(old)
    assert (diff.text == "") == (old == new)
    for line in diff.text.split("\n"):
        if line.startswith("@@"):
            start = int(line.split("-")[1].split(",")[0].split(" ")[0])
            following = diff.text.split(line + "\n", 1)[1].split("\n")
            if following[0][0] in " -":
                assert old[start - 1] == following[0][1:]


def test_a_long_diff_is_cut_and_a_very_long_one_is_only_counted() -> None:
    old, new = "".join(f"{n}\n" for n in range(500)), "".join(f"{n}!\n" for n in range(500))
    assert diff_of(old, new, "a").text.endswith("(… 921 more lines of this diff)")
    old, new = "a\n" * 5000 + "z", "b\n" * 5001 + "z"
    assert diff_of(old, new, "a").text == "(Lines 1-5000 changed; too many to compare.)"
