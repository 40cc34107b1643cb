"""`find_files`: what is asked for, in order, from any number of files."""

from __future__ import annotations

import json
import os
import random
import threading
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
from nanobot.tools._threads import FILE_THREADS, in_file_thread
from nanobot.tools.builtin import builtin_tools, find_files
from nanobot.tools.builtin._glob import paths_matching, suffixes_of_type
from nanobot.tools.builtin._tree import Tree


async def find(context: RunContext, **arguments: Any) -> ToolResult:
    call = ToolCall("1", "find_files", json.dumps(arguments))
    return await execute(call, Toolset([find_files]), context)


async def found(context: RunContext, **arguments: Any) -> list[str]:
    return str((await find(context, **arguments)).message.content).split("\n")


def fill(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def test_it_is_a_built_in_tool_that_only_reads() -> None:
    assert find_files in builtin_tools()
    assert find_files.traits.read_only
    assert not find_files.traits.on_host
    schema = find_files.spec.parameters
    assert schema["required"] == []
    assert list(schema["properties"]) == [
        "path",
        "query",
        "glob",
        "type",
        "include_dirs",
        "sort",
        "head_limit",
        "offset",
    ]


async def test_files_are_found_in_the_order_of_their_names_but_not_in_what_programs_fill(
    context: RunContext, root: Path
) -> None:
    fill(
        root, "b.py", "a/z.py", "a/A.txt", "node_modules/x.py", ".git/HEAD", ".hidden", "c/d/e.pyi"
    )
    (root / "link.py").symlink_to("b.py")
    (root / "loop").symlink_to(".")
    assert await found(context) == [
        ".hidden", "a/A.txt", "a/z.py", "b.py", "c/d/e.pyi", "link.py", "loop",
    ]  # fmt: skip
    assert await found(context, path="node_modules") == ["node_modules/x.py"]
    assert await found(context, path="a/") == ["a/A.txt", "a/z.py"]
    assert await found(context, include_dirs=True, query="A") == ["a/", "a/A.txt", "a/z.py"]


async def test_words_globs_and_types_all_have_to_fit(context: RunContext, root: Path) -> None:
    fill(root, "src/user_service.py", "src/user.ts", "test/user.py", "test/User.md", "x.TXT")
    assert await found(context, query="USER serv") == ["src/user_service.py"]
    assert await found(context, glob="user*") == [
        "src/user.ts",
        "src/user_service.py",
        "test/user.py",
    ]
    assert await found(context, glob="test/*") == ["test/User.md", "test/user.py"]
    assert await found(context, glob="**/*.{py,ts}", query="src") == [
        "src/user.ts",
        "src/user_service.py",
    ]
    assert await found(context, type="py", glob="user.*") == ["test/user.py"]
    assert await found(context, type="markdown") == ["test/User.md"]
    assert await found(context, type=".txt") == ["x.TXT"]
    assert await found(context, type="nosuch") == ["No files found."]


async def test_pages_say_how_to_go_on(context: RunContext, root: Path) -> None:
    fill(root, *(f"{n:04}" for n in range(1200)))
    lines = await found(context)
    assert lines[199:] == ["0199", "(There are more. Use offset=200 to continue.)"]
    lines = await found(context, offset=200, head_limit=2)
    assert lines == ["0200", "0201", "(There are more. Use offset=202 to continue.)"]
    assert await found(context, offset=1199) == ["1199"]
    assert await found(context, offset=1200) == ["No more files."]
    assert len(await found(context, head_limit=0)) == 1001
    assert await found(context, offset=1000, head_limit=0) == [f"{n:04}" for n in range(1000, 1200)]


async def test_the_newest_come_first_if_asked_for(context: RunContext, root: Path) -> None:
    fill(root, "a", "b/c", "d")
    now = time.time()
    for age, name in enumerate(("d", "a", "b/c")):
        os.utime(root / name, (now - 100 * age, now - 100 * age))
    assert await found(context, sort="modified") == ["d", "a", "b/c"]
    assert await found(context, sort="modified", head_limit=1, offset=1) == [
        "a",
        "(3 in all. Use offset=2 to continue.)",
    ]


async def test_hostile_folders_and_names(context: RunContext, root: Path) -> None:
    (root.parent / "outside").mkdir()
    fill(root.parent, "outside/secret")
    (root / "out").symlink_to("../outside")
    fill(root, "line\nbreak", "bidi\u202e")
    with open(os.fsencode(root) + b"/\xe9", "wb"):  # noqa: ASYNC230, PTH123 - a name that is no text
        pass
    os.mkfifo(root / "fifo")
    assert await found(context) == [r"bidi\u202e", "fifo", r"line\nbreak", "out", r"\udce9"]
    for path in ("..", "out", "/etc", "/proc/self/fd", "line\nbreak", "missing", "a\0b", "~"):
        assert not (await find(context, path=path)).ok
    for glob in ("x" * 1001, "{a,b}" * 7):
        assert "glob" in str((await find(context, glob=glob)).error)


async def test_what_is_forbidden_is_not_searched(root: Path) -> None:
    fill(root, "state/sessions.db", "x")
    context = RunContext(confined=Workspace(root, forbidden=[root / "state"]))
    assert await found(context) == ["x"]


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("*.py", "a/b.py", True),
        ("./*.py", "b.py", True),
        ("./*.py", "a/b.py", False),
        ("/a/*.py", "a/b.py", True),
        ("a/*.py", "a/b/c.py", False),
        ("a/**/*.py", "a/c.py", True),
        ("a/**/*.py", "a/b/b/c.py", True),
        ("**/b/**", "a/b/c", True),
        ("**/b/**", "a/c/b", True),
        ("**", "a", True),
        ("**/x/**/y", "x/x/a/y", True),
        ("**/x/**/y", "a/y", False),
        ("a/", "a", True),
        ("[ab].{c,d{e,f}}", "b.df", True),
        ("[!ab]", "c", True),
        ("{a}", "{a}", True),
        ("*", "new\nline", True),
        ("A", "a", False),
    ],
)
def test_a_glob_means_what_people_mean_by_it(glob: str, path: str, fits: bool) -> None:
    assert paths_matching(glob)(path) is fits


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*a" * 400 + "b", "a" * 250),
        ("**/" * 300 + "b", "a/" * 1000 + "a"),
        ("*" * 900 + "b", "a" * 255),
    ],
    ids=range(3),
)
def test_no_glob_takes_long(glob: str, path: str) -> None:
    started = time.perf_counter()
    assert not paths_matching(glob)(path)
    assert time.perf_counter() - started < 5


@given(names=st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=5))
def test_two_stars_stand_for_any_folders(names: list[str]) -> None:
    path = "/".join(names)
    assert paths_matching("**/a/**/b")(path) == (names[-1] == "b" and "a" in names[:-1])


def test_types_have_several_names() -> None:
    assert suffixes_of_type("py") == suffixes_of_type("Python") == (".py", ".pyi")
    assert suffixes_of_type("go") == (".go",)
    assert suffixes_of_type("") == ()


async def test_a_walk_ends_at_its_limits_and_says_so(context: RunContext, root: Path) -> None:
    fill(root, *(f"{a}/{b}" for a in "abcdef" for b in range(500)))

    def walked(**limits: Any) -> tuple[int, str]:
        tree = Tree(lambda path, kind: kind == "file", **limits)
        with context.confined.open_folder() as folder:
            return sum(1 for _ in tree.walk(folder)), tree.gave_up

    assert await in_file_thread(walked) == (3000, "")
    count, why = await in_file_thread(lambda: walked(most_seen=1500))
    assert (500 <= count < 2000, why) == (True, "there are more than 1,500 names")
    count, why = await in_file_thread(lambda: walked(longest_s=0.0))
    assert (count, why) == (0, "it took longer than 0 s")
    count, why = await in_file_thread(lambda: walked(most_held=400))
    assert (count, why) == (6 * 400, "one folder has more than 400 of them")


async def test_a_walk_ends_soon_after_a_cancel(context: RunContext, root: Path) -> None:
    fill(root, *(f"{a}/{b}" for a in range(30) for b in range(10)))

    def wanted(path: str, kind: str) -> bool:
        if tree.seen == 1:
            trio.from_thread.run_sync(scope.cancel)
        time.sleep(0.002)  # a name may take long to look at, and then the walk takes 0.6 s
        return True

    tree = Tree(wanted)
    with trio.CancelScope() as scope, context.confined.open_folder() as folder:
        await in_file_thread(lambda: list(tree.walk(folder)))
    assert scope.cancelled_caught
    assert tree.seen < 200


async def test_folders_nested_for_ever_end(context: RunContext, root: Path) -> None:
    folder = os.open(root, os.O_RDONLY)
    for _ in range(120):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    lines = await found(context, include_dirs=True)
    assert len(lines) == 52
    assert lines[-1] == (
        "(Not everything was searched: folders more than 50 deep were not entered. Search in a folder below.)"
    )


async def test_cancels_leave_no_folder_open_and_no_thread_more(
    context: RunContext, root: Path
) -> None:
    fill(root, *(f"{a}/{b}" for a in range(30) for b in range(30)))
    await find(context)
    threads, open_before = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    for _ in range(100):
        with trio.move_on_after(random.uniform(0, 0.004)):
            await find(context, sort=random.choice(["path", "modified"]), include_dirs=True)
    assert threading.active_count() <= threads + FILE_THREADS
    assert len(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208 - names only


@pytest.mark.slow
async def test_a_million_files_are_searched_in_bounded_time_and_memory(
    context: RunContext, root: Path
) -> None:
    """With hard links to one empty file: the cheapest kind of file there is."""
    make_a_million(root)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert await found(context, query="999999") == ["009/999999"]
    # A look at each file takes five times as long: a busy machine may give up, and say so.
    assert len(await found(context, sort="modified")) in (201, 202)
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(0.5):
            await find_files(context, query="nosuch")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def make_a_million(root: Path) -> None:
    for top in range(10):
        place = root / f"{top:03}"
        place.mkdir()
        # By names in a folder that is held: a path for each would take as long again.
        folder = os.open(place, os.O_RDONLY)
        for start in range(top * 100_000, (top + 1) * 100_000, 50_000):
            first = f"{start:06}"
            (place / first).touch()
            for n in range(start + 1, start + 50_000):
                os.link(first, f"{n:06}", src_dir_fd=folder, dst_dir_fd=folder)
        os.close(folder)


def test_a_glob_that_is_refused_is_a_tool_error() -> None:
    with pytest.raises(ToolError, match="64 alternatives"):
        paths_matching("{a,b}" * 7)
