"""`list_dir`: names in order, bounded, and nothing entered that should not be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanobot.messages import ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, Workspace, execute
from nanobot.tools._threads import in_file_thread
from nanobot.tools.builtin import builtin_tools, list_dir
from nanobot.tools.builtin.list_dir import Survey


async def listed(context: RunContext, arguments: str = "{}") -> ToolResult:
    return await execute(ToolCall("1", "list_dir", arguments), Toolset([list_dir]), context)


def fill(root: Path, *names: str) -> None:
    """Create files, and folders for names that end in a slash."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text("")


def test_it_is_among_the_built_in_tools_and_only_reads() -> None:
    assert list_dir in builtin_tools()
    assert list_dir.traits.read_only
    assert not list_dir.traits.on_host
    schema = list_dir.spec.parameters
    assert list(schema["properties"]) == ["path", "recursive", "max_entries"]
    assert schema["required"] == []


async def test_names_are_sorted_and_marked(context: RunContext, root: Path) -> None:
    fill(root, "b.txt", "a/", "C.txt", "a.txt", ".hidden")
    (root / "link").symlink_to("a")
    result = await listed(context)
    assert result.message.content == "📄 .hidden\n📄 C.txt\n📁 a/\n📄 a.txt\n📄 b.txt\n🔗 link"


async def test_a_folder_in_the_workspace_is_listed_by_its_path(
    context: RunContext, root: Path
) -> None:
    fill(root, "sub/x.txt", "empty/")
    assert (await listed(context, '{"path": "sub"}')).message.content == "📄 x.txt"
    assert (await listed(context, f'{{"path": "{root}/sub"}}')).message.content == "📄 x.txt"
    assert (
        await listed(context, '{"path": "empty"}')
    ).message.content == "empty is an empty folder."
    assert (
        await listed(context, '{"path": "sub/x.txt"}')
    ).error == "sub/x.txt is a file, not a folder."
    assert "is outside the workspace" in str((await listed(context, '{"path": ".."}')).error)
    assert "nosuch does not exist" in str((await listed(context, '{"path": "nosuch"}')).error)


async def test_a_recursive_listing_goes_down_but_not_into_what_other_programs_fill(
    context: RunContext, root: Path
) -> None:
    fill(root, "src/a.py", "src/deep/b.py", "node_modules/x/index.js", ".git/HEAD", "z.txt")
    (root / "src" / "out").symlink_to("/etc")
    (root / "src" / "self").symlink_to(".")
    result = await listed(context, '{"recursive": true}')
    assert result.message.content == "\n".join(
        [
            "📁 .git/",
            "📁 node_modules/",
            "📁 src/",
            "📄 src/a.py",
            "📁 src/deep/",
            "📄 src/deep/b.py",
            "🔗 src/out",
            "🔗 src/self",
            "📄 z.txt",
        ]
    )
    assert "x/" in str(
        (await listed(context, '{"path": "node_modules", "recursive": true}')).message.content
    )


async def test_what_is_left_out_is_said(context: RunContext, root: Path) -> None:
    fill(root, *(f"{n:03}" for n in range(300)), "sub/x")
    content = str((await listed(context)).message.content).split("\n")
    assert len(content) == 201
    assert content[199] == "📄 199"
    assert (
        content[200]
        == "(Showing the first 200 of 301 entries. Raise max_entries, or list a folder in it.)"
    )
    content = str(
        (await listed(context, '{"max_entries": 2, "recursive": true}')).message.content
    ).split("\n")
    assert content[2] == "(Showing the first 2 entries. Raise max_entries, or list a folder in it.)"
    exact = str((await listed(context, '{"max_entries": 301}')).message.content)
    assert "Showing" not in exact


async def test_entries_left_out_further_down_are_said_too(context: RunContext, root: Path) -> None:
    fill(root, "a/1", "a/2", "a/3", "b")
    content = str(
        (await listed(context, '{"max_entries": 3, "recursive": true}')).message.content
    ).split("\n")
    assert content[:3] == ["📁 a/", "📄 a/1", "📄 a/2"]
    assert content[3].startswith("(Showing the first 3 entries.")
    content = str(
        (await listed(context, '{"max_entries": 4, "recursive": true}')).message.content
    ).split("\n")
    assert content[3] == "📄 a/3"
    assert content[4].startswith("(Showing the first 4 entries.")
    assert "Showing" not in str(
        (await listed(context, '{"max_entries": 5, "recursive": true}')).message.content
    )


async def test_hostile_names_stay_on_their_line_and_can_be_sent(
    context: RunContext, root: Path
) -> None:
    fill(root, "new\nline", "escape\x1b[31m", "bidi\u202etxt")
    fill_bytes(root, b"latin-\xe9")
    content = str((await listed(context)).message.content)
    assert content.encode()
    assert sorted(content.split("\n")) == [
        r"📄 bidi\u202etxt",
        r"📄 escape\x1b[31m",
        r"📄 latin-\udce9",
        r"📄 new\nline",
    ]


def fill_bytes(root: Path, name: bytes) -> None:
    with open(os.fsencode(root) + b"/" + name, "wb"):  # noqa: PTH123 - a name that is no text
        pass


async def test_folders_nested_for_ever_end(context: RunContext, root: Path) -> None:
    nest(root, 120)
    content = str((await listed(context, '{"recursive": true}')).message.content).split("\n")
    assert len(content) == 51
    assert content[50].endswith("d/ (not entered: too deep)")


def nest(root: Path, depth: int) -> None:
    folder = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)


async def test_forbidden_folders_are_named_but_not_entered(root: Path) -> None:
    fill(root, "state/sessions.db", "x")
    context = RunContext(confined=Workspace(root, forbidden=[root / "state"]))
    result = await listed(context, '{"recursive": true}')
    assert result.message.content == "📁 state/ (cannot be opened)\n📄 x"


async def test_no_more_entries_are_looked_at_than_one_call_may(
    context: RunContext, root: Path
) -> None:
    fill(root, *(f"{folder}/{n}" for folder in "ab" for n in range(10)))

    def surveyed(look_at: int, recursive: bool) -> Survey:
        survey = Survey(100, recursive, look_at=look_at)
        with context.confined.open_folder("." if recursive else "a") as folder:
            survey.visit(folder)
        return survey

    survey = await in_file_thread(lambda: surveyed(10, False))
    assert (survey.whole, survey.gave_up, survey.total, len(survey.lines)) == (True, False, 10, 10)
    survey = await in_file_thread(lambda: surveyed(9, False))
    assert (survey.whole, survey.gave_up, survey.total, len(survey.lines)) == (False, True, 0, 9)
    survey = await in_file_thread(lambda: surveyed(22, True))
    assert (survey.whole, len(survey.lines)) == (True, 22)
    survey = await in_file_thread(lambda: surveyed(15, True))
    assert (survey.whole, len(survey.lines)) == (False, 15)


@pytest.mark.slow
async def test_a_folder_of_very_many_files_is_listed_in_bounded_time(
    context: RunContext, root: Path
) -> None:
    for n in range(150_000):
        (root / f"{n:06}").symlink_to("x")  # the cheapest kind of entry
    result = await listed(context, '{"max_entries": 5}')
    content = str(result.message.content).split("\n")
    assert len(content) == 6
    assert content[5].startswith(
        "(Showing 5 out of more than 100,000 entries, not always the first by name."
    )
    assert result.elapsed_s < 10  # 0.2 s on an idle machine
