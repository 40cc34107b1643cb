"""The workspace's files are shown as they are now, cost little while unchanged, and cannot hurt."""

from __future__ import annotations

import mmap
import os
import socket
import time
from pathlib import Path

import pytest
import trio

from nanobot.context import Skill, WorkspaceFiles, WorkspaceTexts


def settle(path: Path, *, seconds_ago: float = 60) -> None:
    """Make a file look as if it had not been touched for a while; its ctime, which only time can age, stays young."""
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


def bind(server: socket.socket, path: Path) -> None:
    """Make a socket file; its address has at most 107 bytes, so a short way to it is taken."""
    short = os.path.relpath(path)
    server.bind(short if len(short) < len(str(path)) else str(path))


async def test_everything_the_model_is_shown_is_read(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("agents\n")
    (tmp_path / "SOUL.md").write_text("\ufeffsoul")
    (tmp_path / "USER.md").write_text("  \n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "MEMORY.md").write_text("memory")
    for name in ("zeta", "alpha"):
        (tmp_path / "skills" / name).mkdir(parents=True)
        (tmp_path / "skills" / name / "SKILL.md").write_text(
            f"---\nname: {name}\ndescription: Does {name}\n---\n"
        )
    (tmp_path / "skills" / "README.md").write_text("not a skill")
    (tmp_path / "skills" / "empty").mkdir()
    assert await WorkspaceFiles(tmp_path).read() == WorkspaceTexts(
        agents="agents",
        soul="soul",
        user="",
        memory="memory",
        skills=(
            Skill("alpha", "Does alpha", "skills/alpha/SKILL.md"),
            Skill("zeta", "Does zeta", "skills/zeta/SKILL.md"),
        ),
    )


@pytest.mark.parametrize("workspace", ["missing", "a file", "nul\0byte"])
async def test_a_workspace_that_is_none_is_empty(tmp_path: Path, workspace: str) -> None:
    (tmp_path / "a file").write_text("x")
    assert await WorkspaceFiles(tmp_path / workspace).read() == WorkspaceTexts()


async def test_an_unchanged_workspace_gives_the_same_object_and_any_change_is_seen(
    tmp_path: Path,
) -> None:
    agents = tmp_path / "AGENTS.md"
    files = WorkspaceFiles(tmp_path)
    assert (await files.read()).agents == ""
    agents.write_text("one")
    first = await files.read()
    assert first.agents == "one"
    assert await files.read() is first
    for text in ("two", "six", "three"):  # of the same length, within one tick of the clock
        agents.write_text(text)
        settle(agents)
        assert (await files.read()).agents == text
    (tmp_path / "new").write_text("moved")
    (tmp_path / "new").replace(agents)
    assert (await files.read()).agents == "moved"
    agents.unlink()
    assert (await files.read()).agents == ""
    assert await files.read() == WorkspaceTexts()


async def test_a_change_that_the_files_times_do_not_tell_of_is_seen_while_the_file_is_young(
    tmp_path: Path,
) -> None:
    (tmp_path / "AGENTS.md").write_text("one")
    descriptor = os.open(tmp_path / "AGENTS.md", os.O_RDWR)
    with mmap.mmap(
        descriptor, 3
    ) as mapped:  # what is written through it moves no clock, once the page is dirty
        os.close(descriptor)
        mapped[:] = b"two"
        files = WorkspaceFiles(tmp_path)
        assert (await files.read()).agents == "two"
        mapped[:] = b"six"
        assert (await files.read()).agents == "six"


async def test_skills_come_and_go(tmp_path: Path) -> None:
    files = WorkspaceFiles(tmp_path)
    skill = tmp_path / "skills" / "pdf" / "SKILL.md"
    assert (await files.read()).skills == ()
    skill.parent.mkdir(parents=True)
    skill.write_text("---\ndescription: one\n---")
    assert [found.description for found in (await files.read()).skills] == ["one"]
    skill.write_text("---\ndescription: two\n---")
    assert [found.description for found in (await files.read()).skills] == ["two"]
    skill.unlink()
    assert (await files.read()).skills == ()


async def test_a_huge_file_is_cut_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("The beginning.")
    os.truncate(tmp_path / "AGENTS.md", 100_000_000)
    started = time.perf_counter()
    texts = await WorkspaceFiles(tmp_path).read()
    assert time.perf_counter() - started < 5
    assert texts.agents.startswith("The beginning.")
    assert "the first 32,768 of 100,000,000 bytes" in texts.agents
    assert len(texts.agents) < 40_000


async def test_a_character_cut_in_two_and_bytes_that_are_no_text_are_shown_as_such(
    tmp_path: Path,
) -> None:
    (tmp_path / "AGENTS.md").write_bytes(b"x" + "é".encode() * 40_000)
    (tmp_path / "SOUL.md").write_bytes(b"caf\xe9 \x00 \xff")
    texts = await WorkspaceFiles(tmp_path).read()
    texts.agents.encode()
    assert texts.soul == "caf\N{REPLACEMENT CHARACTER}  \N{REPLACEMENT CHARACTER}"


async def test_what_is_not_a_file_is_not_opened_and_never_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "AGENTS.md")
    (tmp_path / "SOUL.md").mkdir()
    server = socket.socket(socket.AF_UNIX)
    (tmp_path / "memory").mkdir()
    (tmp_path / "skills" / "trap").mkdir(parents=True)
    os.mkfifo(tmp_path / "skills" / "trap" / "SKILL.md")
    with server:
        bind(server, tmp_path / "USER.md")
        with trio.fail_after(30):
            texts = await WorkspaceFiles(tmp_path).read()
    for text, name, kind in (
        (texts.agents, "AGENTS.md", "a named pipe"),
        (texts.soul, "SOUL.md", "a folder"),
        (texts.user, "USER.md", "a socket"),
    ):
        assert text == f"[{name} was not read: not a regular file but {kind}]"
    assert texts.skills == ()


async def test_a_history_with_a_line_nested_without_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    entry = '{"cursor": 1, "timestamp": "t", "content": "c", "kind": '
    lines = entry + '"note"}\n' + entry + "[" * 10_000 + "\n"
    (tmp_path / "memory" / "history.jsonl").write_text(lines)
    texts = await WorkspaceFiles(tmp_path).read()
    assert [kept.kind for kept in texts.history] == ["note"]


async def test_a_link_inside_the_workspace_is_followed_and_one_out_of_it_only_if_allowed(
    tmp_path: Path,
) -> None:
    workspace = tmp_path / "workspace"
    (workspace / "docs").mkdir(parents=True)
    (workspace / "docs" / "agents.md").write_text("inside")
    (workspace / "AGENTS.md").symlink_to("docs/agents.md")
    (tmp_path / "secret").write_text("key")
    (workspace / "SOUL.md").symlink_to(tmp_path / "secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "MEMORY.md").write_text("key")
    (workspace / "memory").symlink_to(tmp_path / "elsewhere")
    (workspace / "USER.md").symlink_to("USER.md")
    confined = await WorkspaceFiles(workspace).read()
    assert confined.agents == "inside"
    assert confined.soul == "[SOUL.md was not read: it is a link out of the workspace]"
    assert confined.memory == "[memory/MEMORY.md was not read: it is a link out of the workspace]"
    assert confined.user.startswith("[USER.md was not read: ")
    free = await WorkspaceFiles(workspace, confined=False).read()
    assert (free.agents, free.soul, free.memory) == ("inside", "key", "key")


async def test_a_workspace_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "AGENTS.md").write_text("agents")
    (tmp_path / "link").symlink_to("real")
    assert (await WorkspaceFiles(tmp_path / "link").read()).agents == "agents"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("x")
    (tmp_path / "AGENTS.md").chmod(0)
    assert "Permission denied" in (await WorkspaceFiles(tmp_path).read()).agents


async def test_of_very_many_skills_some_are_left_out_and_counted(tmp_path: Path) -> None:
    for number in range(210):
        folder = tmp_path / "skills" / f"skill{number:03}"
        folder.mkdir(parents=True)
        (folder / "SKILL.md").write_text("x")
    texts = await WorkspaceFiles(tmp_path).read()
    assert [skill.name for skill in texts.skills] == [f"skill{number:03}" for number in range(200)]
    assert texts.skills_left_out == 10


async def test_a_folder_whose_name_is_no_text_is_passed_over(tmp_path: Path) -> None:
    skill = tmp_path / "skills" / "caf\udce9" / "SKILL.md"
    try:
        skill.parent.mkdir(parents=True)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes only names that are text")
    skill.write_text("x")
    assert (await WorkspaceFiles(tmp_path).read()).skills == ()


async def test_a_thousand_readers_at_once_share_their_looks_and_none_sees_the_past(
    tmp_path: Path,
) -> None:
    files = WorkspaceFiles(tmp_path)
    agents = tmp_path / "AGENTS.md"
    agents.write_text("0")
    seen: list[WorkspaceTexts] = []
    stale: list[tuple[str, str]] = []

    async def reader() -> None:
        at_least = agents.read_text()
        texts = await files.read()
        seen.append(texts)
        if int(texts.agents) < int(at_least):
            stale.append((texts.agents, at_least))

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            if number % 50 == 0:
                replacement = tmp_path / "next"
                replacement.write_text(str(number))
                replacement.replace(agents)
                await trio.lowlevel.checkpoint()
            nursery.start_soon(reader)
    assert stale == []
    assert len({id(texts) for texts in seen}) < 100


async def test_a_reader_that_is_cancelled_leaves_the_others_to_look_for_themselves(
    tmp_path: Path,
) -> None:
    (tmp_path / "AGENTS.md").write_text("x")
    files = WorkspaceFiles(tmp_path)
    seen: list[str] = []

    async def reader(deadline: float) -> None:
        with trio.move_on_after(deadline):
            seen.append((await files.read()).agents)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(reader, 0 if number % 2 else 60)
    assert len(seen) >= 30
    assert set(seen) == {"x"}
    assert (await files.read()).agents == "x"
