"""`grep`: the lines that match, from files that may be read, in bounded time whatever the pattern."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, get_args

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.errors import ToolError
from nanobot.messages import ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, Workspace, execute
from nanobot.tools._threads import FILE_THREADS
from nanobot.tools.builtin import _line_matcher, builtin_tools, grep
from nanobot.tools.builtin._line_matcher import _start
from nanobot.tools.builtin._matcher import Query, find_ripgrep, open_matcher
from nanobot.tools.builtin.grep import OutputMode, Page, Texts, searched

RIPGREP = shutil.which("rg")


@pytest.fixture(params=["python", "ripgrep"])
def ripgrep(request: pytest.FixtureRequest) -> str | None:
    """Both programs that search."""
    if request.param == "python":
        return None
    if RIPGREP is None:
        pytest.skip("needs ripgrep (rg)")
    return RIPGREP


async def called(context: RunContext, **arguments: Any) -> ToolResult:
    return await execute(ToolCall("1", "grep", json.dumps(arguments)), Toolset([grep]), context)


async def lines(
    context: RunContext,
    ripgrep: str | None,
    pattern: str,
    mode: OutputMode = "content",
    *,
    path: str = ".",
    glob: str = "",
    kind: str = "",
    ignore_case: bool = False,
    fixed: bool = False,
    before: int = 0,
    after: int = 0,
    limit: int = 250,
    offset: int = 0,
) -> list[str]:
    result = await searched(
        context,
        Query(pattern, ignore_case, fixed),
        Texts(context, path, glob, kind),
        Page(mode, before, after, limit, offset),
        ripgrep,
    )
    return result.split("\n")


def fill(root: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_it_is_a_built_in_tool_that_only_reads() -> None:
    assert grep in builtin_tools()
    assert grep.traits.read_only
    assert not grep.traits.on_host
    schema = grep.spec.parameters
    assert schema["required"] == ["pattern"]
    assert list(schema["properties"]) == [
        "pattern",
        "path",
        "glob",
        "type",
        "case_insensitive",
        "fixed_strings",
        "output_mode",
        "context_before",
        "context_after",
        "head_limit",
        "offset",
    ]
    assert schema["properties"]["output_mode"]["enum"] == sorted(get_args(OutputMode))
    assert schema["properties"]["output_mode"]["default"] == "files_with_matches"


async def test_the_tool_finds_files_by_what_is_in_them(context: RunContext, root: Path) -> None:
    fill(root, a_py="def one(): ...\n", sub__b_py="def two(): ...\n", c_txt="nothing")
    result = await called(context, pattern=r"def \w+\(")
    assert result.message.content == "a.py\nsub/b.py"
    result = await called(
        context, pattern="DEF", case_insensitive=True, output_mode="count", path="sub"
    )
    assert result.message.content == "sub/b.py: 1"
    assert (await called(context, pattern="nowhere")).message.content == "No matches found."


async def test_lines_are_shown_with_their_numbers_and_what_is_around_them(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    fill(root, a_txt="".join(f"line {n}\n" for n in range(1, 21)), b_txt="line 5 at the end")
    assert await lines(context, ripgrep, r"line 5\b") == [
        "a.txt", "> 5| line 5", "", "b.txt", "> 1| line 5 at the end",
    ]  # fmt: skip
    assert await lines(context, ripgrep, r"line (1|20)$", before=2, after=1) == [
        "a.txt", "> 1| line 1", "  2| line 2", "  …", "  18| line 18", "  19| line 19", "> 20| line 20",
    ]  # fmt: skip
    assert await lines(context, ripgrep, r"line (3|5|19)$", path="a.txt", before=1, after=2) == [
        "a.txt",
        "  2| line 2",
        "> 3| line 3",
        "  4| line 4",
        "> 5| line 5",
        "  6| line 6",
        "  7| line 7",
        "  …",
        "  18| line 18",
        "> 19| line 19",
        "  20| line 20",
    ]


async def test_text_globs_types_and_case(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    fill(root, a_py="a.b(c)\n", a_ts="a.b(c)\nA.B\naxb", src__x_js="AXB\n")
    assert await lines(context, ripgrep, "a.b(", fixed=True, mode="files_with_matches") == [
        "a.py",
        "a.ts",
    ]
    assert await lines(context, ripgrep, "a.b", "count") == ["a.py: 1", "a.ts: 2"]
    assert await lines(context, ripgrep, "a.b", "count", ignore_case=True) == [
        "a.py: 1", "a.ts: 3", "src/x.js: 1",
    ]  # fmt: skip
    assert await lines(context, ripgrep, "a", "files_with_matches", kind="ts") == ["a.ts"]
    assert await lines(context, ripgrep, "(?i)A", "files_with_matches", glob="src/*.{js,ts}") == [
        "src/x.js"
    ]


async def test_many_long_lines_make_a_page_too(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    fill(root, a_txt=("x" * 499 + "\n") * 300)
    found = await lines(context, ripgrep, "x", limit=1000)
    assert "".join(found).count("x" * 499) == 253
    assert found[-1] == "(Showing 253 matches; there are more. Use offset=253 to continue.)"


async def test_pages(context: RunContext, root: Path, ripgrep: str | None) -> None:
    for name in "abcdef":
        fill(root, **{f"{name}_txt": "x\nx\nx\n"})
    assert await lines(context, ripgrep, "x", "files_with_matches", limit=2, offset=1) == [
        "b.txt", "c.txt", "(Showing 2 files; there are more. Use offset=3 to continue.)",
    ]  # fmt: skip
    assert await lines(context, ripgrep, "x", limit=2, offset=2) == [
        "a.txt", "> 3| x", "", "b.txt", "> 1| x",
        "(Showing 2 matches; there are more. Use offset=4 to continue.)",
    ]  # fmt: skip
    assert await lines(context, ripgrep, "x", limit=18) == (await lines(context, ripgrep, "x"))
    assert await lines(context, ripgrep, "x", offset=17) == ["f.txt", "> 3| x"]
    assert await lines(context, ripgrep, "x", offset=18) == ["No more matches."]


async def test_binary_large_and_generated_files_are_passed_over(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    fill(
        root, a_bin=b"needle\0", b_pdf=b"%PDF- needle", large_txt=b"needle\n" * 400_000, ok="needle"
    )
    (root / "node_modules").mkdir()
    (root / "node_modules" / "x.js").write_text("needle")
    (root / "link").symlink_to("ok")
    os.mkfifo(root / "fifo")
    assert await lines(context, ripgrep, "needle", "count") == [
        "ok: 1", "(Not searched, over 2 MB: large.txt. Give one as path.)",
    ]  # fmt: skip
    assert await lines(context, ripgrep, "needle", "count", path="large.txt") == [
        "large.txt: 400,000"
    ]
    assert await lines(context, ripgrep, "needle", "count", path="node_modules") == [
        "node_modules/x.js: 1"
    ]
    assert await lines(context, ripgrep, "needle", "count", path="link") == ["link: 1"]
    with pytest.raises(ToolError, match="a PDF document"):
        await lines(context, ripgrep, "needle", path="b.pdf")


async def test_any_bytes_and_line_endings(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    fill(
        root,
        crlf="one\r\ntwo\r\n",
        latin=b"caf\xe9 one\n",
        marked=b"\xef\xbb\xbfone",
        utf16="one\nzwei".encode("utf-16"),
        empty="",
        sep="a\u2028one\x0bb\x0cc\rd",
    )
    assert await lines(context, ripgrep, "^one$|caf. one|\\bone\\b.b") == [
        "crlf", "> 1| one", "",
        *(["latin", "> 1| caf\ufffd one", ""] if ripgrep is None else []),
        "marked", "> 1| one", "",
        "sep", "> 1| a\u2028one\x0bb\x0cc\rd", "",
        "utf16", "> 1| one",
    ]  # fmt: skip
    assert await lines(context, ripgrep, "one", path="latin") == ["latin", "> 1| caf\ufffd one"]


async def test_a_long_line_is_shown_around_its_match(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    fill(root, a_js="é" * 100_000 + "needle" + "ü" * 100_000 + "\nshort needle\n")
    _, long, short = await lines(context, ripgrep, "needle")
    assert re.fullmatch("> 1\\| … é+needleü+ …", long)
    assert 250 < len(long) < 510
    assert short == "> 2| short needle"


CATASTROPHES = [r"(a+)+$", r"(a|aa)+$", r"(.*a){20}$", r"^(\w+\s?)*$", r"(x+x+)+y"]


@pytest.mark.parametrize("pattern", CATASTROPHES)
async def test_ripgrep_takes_no_longer_for_a_pattern_that_backtracks(
    pattern: str, context: RunContext, root: Path
) -> None:
    if RIPGREP is None:
        pytest.skip("needs ripgrep (rg)")
    fill(root, a_txt="a" * 100_000 + "!\n" + "x" * 100_000)
    started = time.perf_counter()
    await lines(context, RIPGREP, pattern, "count")
    assert time.perf_counter() - started < 10


async def test_a_pattern_that_backtracks_for_ever_is_stopped_with_a_clear_word(
    context: RunContext, root: Path
) -> None:
    fill(root, a_txt="a" * 30 + "!\n")
    programs, threads = children(), threading.active_count()
    started = time.perf_counter()
    with pytest.raises(ToolError, match=r"takes longer than 5\S* s (.|\n)*\(a\+\)\+"):
        await lines(context, None, r"(?=a)(a+)+$")  # only `re` looks ahead
    assert 4 < time.perf_counter() - started < 15
    assert threading.active_count() <= threads + FILE_THREADS
    assert children() <= programs


@pytest.mark.parametrize("pattern", CATASTROPHES)
async def test_without_ripgrep_a_pattern_that_backtracks_takes_no_longer(
    pattern: str, context: RunContext, root: Path
) -> None:
    # `re` would be stopped with an error, at the latest after the hundredth line.
    fill(root, a_txt=("a" * 200 + "!\n" + "x" * 200 + "!\n") * 100)
    assert await lines(context, None, pattern, "count") == ["No matches found."]


def test_the_program_needs_nothing_but_the_file_beside_it(tmp_path: Path) -> None:
    folder = Path(_line_matcher.__file__).parent
    for name in ("_line_matcher.py", "_linear_regex.py"):
        shutil.copy(folder / name, tmp_path)
    ran = subprocess.run(
        [
            sys.executable,
            *("-I", "-S", str(tmp_path / "_line_matcher.py"), "end", "i", r"É\b|(a+)+c"),
        ],
        input="né\naac\nx\nend\n".encode(),
        capture_output=True,
        check=True,
    )
    assert ran.stdout.decode().splitlines() == ["1:2:0:", "2:1:4:", "4:1:10:"]


@pytest.mark.parametrize(
    ("pattern", "flags", "linear"),
    [
        ("class Foo", "", False),
        ("a+b", "", True),
        ("a+b", "f", False),  # a text, which has nothing to try again
        ("[ab]" * 60, "", True),
        ("a" * 300, "f", True),
        ("(?=a)b+", "", False),
    ],
)
def test_each_pattern_goes_to_the_engine_that_suits_it(
    pattern: str, flags: str, linear: bool
) -> None:
    assert (getattr(_start(flags, pattern), "__self__", None) is not None) is linear


def children() -> set[str]:
    """Programs that this process has started and that are alive, or dead and not buried."""
    found: set[str] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        found.update(task.read_text().split())
    return found


async def test_a_pattern_that_ripgrep_refuses_is_given_to_python(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    fill(root, a_txt="price: 5\ncost: 5\nabab\n")
    assert await lines(context, ripgrep, r"(?<=price: )\d") == ["a.txt", "> 1| price: 5"]
    assert await lines(context, ripgrep, r"^(ab)\1$") == ["a.txt", "> 3| abab"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "The pattern cannot be used: "),
        ("[z-a]", "The pattern cannot be used: "),
        ("a\nb", "cannot contain a line break"),
        ("a\0b", "cannot contain a line break or NUL"),
        ("", "is empty"),
        ("x" * 10_001, "10,000 are the limit"),
        ("\udc80", "half of a character"),
    ],
    ids=range(7),
)
async def test_a_pattern_that_is_none_is_told(
    pattern: str, said: str, context: RunContext, ripgrep: str | None
) -> None:
    programs = children()
    with pytest.raises(ToolError, match=said):
        await lines(context, ripgrep, pattern)
    assert children() <= programs


async def test_a_pattern_is_never_an_option(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    fill(root, a_txt="--help -e -f /etc/passwd\n")
    for pattern in ("--help", "-e", "-f /etc/passwd", "--pre=/bin/sh"):
        expected = [] if "pre" in pattern else ["a.txt"]
        assert await lines(context, ripgrep, pattern, "files_with_matches") == (
            expected or ["No matches found."]
        )


async def test_nothing_outside_and_nothing_forbidden_is_read(
    root: Path, ripgrep: str | None
) -> None:
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "x").write_text("secret")
    (root / "link").symlink_to("../outside/x")
    (root / "folder").symlink_to("../outside")
    fill(root, state__db="secret", a="public secret")
    (root / "hard").hardlink_to(root / "state" / "db")
    context = RunContext(
        confined=Workspace(root, forbidden=[root / "state", root / "state" / "db"])
    )
    assert await lines(context, ripgrep, "secret", "files_with_matches") == ["a"]
    for path in (
        "link",
        "folder",
        "folder/x",
        "../outside",
        "/etc/passwd",
        "state",
        "hard",
        "/dev/zero",
        "nosuch",
    ):
        with pytest.raises(ToolError):
            await lines(context, ripgrep, "secret", path=path)


EXCHANGE = """
import ctypes, os, sys
rename = ctypes.CDLL(None).renameat2
os.chdir(sys.argv[1])
print("ready", flush=True)
while os.path.exists("go-on"):
    for _ in range(1000):
        rename(-100, b"folder", -100, b"link-to-folder", 2)
        rename(-100, b"file.txt", -100, b"link-to-file", 2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs renameat2 of Linux")
async def test_a_program_that_exchanges_names_all_the_time_shows_nothing_outside(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "x.txt").write_text("secret")
    fill(root, folder__x_txt="harmless", file_txt="harmless")
    (root / "go-on").write_text("")
    (root / "link-to-folder").symlink_to(outside)
    (root / "link-to-file").symlink_to(outside / "x.txt")
    program = subprocess.Popen([sys.executable, "-c", EXCHANGE, str(root)], stdout=subprocess.PIPE)  # noqa: ASYNC220 - beside us
    found = 0
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        for _ in range(40):
            found += len(await lines(context, ripgrep, "harmless"))
            assert await lines(context, ripgrep, "secret", "count") == ["No matches found."]
    finally:
        (root / "go-on").unlink()
        program.communicate()
    assert found


async def test_a_ripgrep_in_the_workspace_is_not_run(root: Path) -> None:
    for folder in (root, root.parent / "bin"):
        folder.mkdir(exist_ok=True)
        (folder / "rg").write_text("#!/bin/sh\n")
        (folder / "rg").chmod(0o755)
    assert find_ripgrep(root, f"{root}:.") is None
    assert find_ripgrep(root, str(root.parent / "bin")) == str(root.parent / "bin" / "rg")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(
    texts=st.lists(st.text(alphabet="ab\n\ré", max_size=12), max_size=6),
    pattern=st.sampled_from(["a", "^a", "b$", "^$", "a.b", "é", "[^a]b"]),
    again=st.booleans(),
)
async def test_every_line_is_told_once_at_its_place(
    texts: list[str], pattern: str, again: bool, ripgrep: str | None
) -> None:
    contents = [text.encode() for text in texts]
    async with open_matcher(Query(pattern), ripgrep) as matcher:
        if again:
            await matcher.search([b"a\nab\nb", b""], 3)
        found = await matcher.search(contents, 1000)
    for content, each in zip(contents, found, strict=True):
        split = content.split(b"\n")
        if split[-1] == b"":
            split.pop()
        offsets = [0, *itertools.accumulate(len(line) + 1 for line in split)]
        expected = [
            (number, offsets[number - 1], match.start())
            for number, line in enumerate(split, 1)
            if (match := re.search(pattern, line.rstrip(b"\r").decode()))
        ]
        if any(line.endswith(b"\r\r") or b"\r" in line[:-1] for line in split):
            continue  # the two programs see a lone carriage return differently
        assert [(hit.line, hit.offset) for hit in each.hits] == [e[:2] for e in expected]
        assert each.count == len(expected)


async def test_cancels_leave_no_program_no_thread_and_no_file_open(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    for n in range(60):
        fill(root, **{f"{n}_txt": "a line of text\n" * 5000})
    await lines(context, ripgrep, "text")
    programs = children()
    threads, open_before = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only

    async def one() -> None:
        with trio.move_on_after(random.uniform(0, 0.15)):
            await lines(context, ripgrep, random.choice(["text", "(a+)+$", "nosuch"]), "count")

    for _ in range(8):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(one)
    assert children() <= programs
    assert threading.active_count() <= threads + FILE_THREADS + 4
    assert len(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208 - names only


async def test_searches_of_many_runs_at_once_all_get_their_turn(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    for n in range(20):
        fill(root, **{f"{n}_txt": f"number {n}\n"})
    found: dict[int, list[str]] = {}

    async def one(number: int) -> None:
        found[number] = await lines(context, ripgrep, f"number {number}$", "count")

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one, number)
    assert found == {number: [f"{number}.txt: 1"] for number in range(20)}


@pytest.mark.slow
async def test_an_archive_of_a_million_files_is_searched_in_bounded_time_and_memory(
    context: RunContext, root: Path, ripgrep: str | None
) -> None:
    resource = pytest.importorskip("resource")
    for top in range(20):
        folder = root / f"{top:03}"
        folder.mkdir()
        for start in range(0, 50_000, 25_000):
            first = folder / f"{start:06}"
            first.write_text("a needle in a haystack\n")
            for n in range(start + 1, start + 25_000):
                os.link(first, folder / f"{n:06}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = await lines(context, ripgrep, "nosuch")
    assert result[0] == "No matches found."
    assert result[1:] in (
        [],
        [
            "(Not everything was searched: it took longer than 20 s. Search in a folder below, or give a glob.)"
        ],
    )
    assert len(await lines(context, ripgrep, "needle", "files_with_matches")) == 251
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
