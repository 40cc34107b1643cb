"""`apply_patch`: every file of it or none, whatever happens on the way."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot.errors import ToolError
from nanobot.messages import ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, Workspace, execute
from nanobot.tools._threads import FILE_THREADS
from nanobot.tools._workspace import StagedFile
from nanobot.tools.builtin import apply_patch, builtin_tools
from nanobot.tools.builtin.apply_patch import publish_all


async def patch(context: RunContext, *edits: dict[str, str], **more: Any) -> ToolResult:
    call = ToolCall("1", "apply_patch", json.dumps({"edits": edits, **more}))
    return await execute(call, Toolset([apply_patch]), context)


def replace(path: str, old: str, new: str) -> dict[str, str]:
    return {"path": path, "action": "replace", "old_text": old, "new_text": new}


def add(path: str, new: str) -> dict[str, str]:
    return {"path": path, "action": "add", "new_text": new}


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def test_it_is_a_built_in_tool_that_runs_alone() -> None:
    assert apply_patch in builtin_tools()
    assert not apply_patch.traits.read_only
    assert not apply_patch.traits.on_host
    schema = apply_patch.spec.parameters
    assert schema["required"] == ["edits"]
    edits = schema["properties"]["edits"]
    assert (edits["minItems"], edits["maxItems"]) == (1, 20)
    assert list(edits["items"]["properties"]) == ["path", "action", "old_text", "new_text"]
    assert edits["items"]["required"] == ["path", "action"]


async def test_several_files_are_changed_at_once(context: RunContext, root: Path) -> None:
    (root / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    (root / "b.txt").write_text("no end")
    result = await patch(
        context,
        replace("a.txt", "one\n", "1\nand more\n"),
        replace("./a.txt", "two", "2"),
        add("b.txt", "appended"),
        add("new/c.txt", "created\nhere"),
        replace("./new//c.txt", "here", "there"),
    )
    assert result.message.content == (
        "Changed 3 files:\n- update a.txt (+3/-2)\n- update b.txt (+2/-1)\n- add new/c.txt (+2/-0)"
    )
    assert files(root) == {
        "a.txt": b"1\r\nand more\r\n2\r\n",
        "b.txt": b"no end\nappended\n",
        "new/c.txt": b"created\nthere\n",
    }


async def test_a_dry_run_shows_what_would_change_and_changes_nothing(
    context: RunContext, root: Path
) -> None:
    (root / "a").write_text("x\n")
    result = await patch(context, replace("a", "x", "y"), add("d/b", "z"), dry_run=True)
    assert result.message.content == (
        "Would change 2 files:\n- update a (+1/-1)\n- add d/b (+1/-0)\n"
        "--- a\n+++ a\n@@ -1 +1 @@\n-x\n+y\n--- d/b\n+++ d/b\n@@ -0,0 +1 @@\n+z"
    )
    assert files(root) == {"a": b"x\n"}
    assert sorted(root.iterdir()) == [root / "a"]  # noqa: ASYNC240 - one name


BAD = [
    (replace("a", "missing", "x"), "Edit 2: old_text is not in a"),
    (replace("a", "o", "x"), "Edit 2: old_text occurs 2 times in a"),
    (replace("nosuch", "o", "x"), "Edit 2: nosuch does not exist"),
    (replace("a", "", "x"), "Edit 2: old_text is empty"),
    (replace("a", "foo", "foo"), "Edit 2: old_text and new_text are the same"),
    ({**add("a", "x"), "old_text": "foo"}, "Edit 2: add takes no old_text"),
    (add("../outside", "x"), "is outside the workspace"),
    (add("link", "x"), "is outside the workspace"),
    (add("link/x", "x"), "is outside the workspace"),
    (add("/etc/nanobot", "x"), "is outside the workspace"),
    (add(".", "x"), "is a folder"),
    (add("fifo", "x"), "is a FIFO"),
    (add("a/b", "x"), "is a file, not a folder"),
    (add("x" * 300, "x"), "longer than the file system allows"),
    (add("binary", "x"), "a binary file"),
    (add("state/x", "x"), "belongs to the program itself"),
]


@pytest.mark.parametrize(("edit", "said"), BAD, ids=range(len(BAD)))
async def test_one_edit_that_fails_leaves_every_file_as_it_was(
    edit: dict[str, str], said: str, root: Path
) -> None:
    (root / "a").write_text("foo\nfoo\nbar\n".replace("foo\nfoo", "foo\no"))
    (root / "binary").write_bytes(b"\0")
    (root / "link").symlink_to("..")
    (root / "state").mkdir()
    os.mkfifo(root / "fifo")
    before, names = files(root.parent), sorted(root.parent.rglob("*"))  # noqa: ASYNC240 - a few names
    context = RunContext(confined=Workspace(root, forbidden=[root / "state"]))
    if edit.get("old_text") == "o":
        (root / "a").write_text("o\no\nbar\n")
        before = files(root.parent)
    first = replace("a", "bar", "changed")
    result = await patch(context, first, edit, add("deep/er/file", "x"))
    assert said in str(result.error)
    assert str(result.error).endswith("No file was changed.")
    assert files(root.parent) == before
    assert sorted(root.parent.rglob("*")) == names  # noqa: ASYNC240 - a few names


async def test_no_more_than_twenty_edits_and_no_other_words(context: RunContext) -> None:
    assert "length" in str((await patch(context, *[add("a", "x")] * 21)).error)
    assert "length" in str((await patch(context)).error)
    assert not (await patch(context, {"path": "a", "action": "delete"})).ok
    assert not (await patch(context, {"path": "a", "action": "add", "mode": "x"})).ok


def test_what_was_published_is_taken_back_if_a_later_one_fails(root: Path) -> None:
    (root / "a").write_text("old a")
    (root / "b").write_text("old b")
    workspace = Workspace(root)
    with (
        workspace.stage("a", b"new", undoable=True) as a,
        workspace.stage("made/c", b"new", undoable=True) as c,
        workspace.stage("b", b"new", expected=b"old b", undoable=True) as b,
    ):
        (root / "b").write_text("theirs")
        with pytest.raises(ToolError, match="b was changed by somebody else"):
            publish_all([a, c, b], ["a", "made/c", "b"])
        assert files(root)["a"] == b"old a"
    assert files(root) == {"a": b"old a", "b": b"theirs"}
    assert sorted(root.iterdir()) == [root / "a", root / "b"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks on folders")
def test_no_other_writer_comes_between_the_files_of_a_patch(root: Path) -> None:
    workspace = Workspace(root)
    for name in ("a", "b/c", "b/d"):
        workspace.write_file(name, b"old")
    other = threading.Thread(target=workspace.write_file, args=("b/d", b"theirs"))
    with (
        workspace.stage("a", b"new", undoable=True) as a,
        workspace.stage("b/c", b"new", undoable=True) as c,
        workspace.stage("b/d", b"new", expected=b"old", undoable=True) as d,
    ):
        StagedFile.lock_all([a, c, d])
        other.start()
        other.join(0.1)
        assert other.is_alive()
        publish_all([a, c, d], ["a", "b/c", "b/d"])
        assert (root / "b" / "d").read_bytes() == b"new"
    other.join()
    assert (root / "b" / "d").read_bytes() == b"theirs"


def test_what_others_changed_after_it_was_published_is_left_and_told(root: Path) -> None:
    (root / "a").write_text("old a")
    workspace = Workspace(root)

    class TheirsFirst:
        """Fails, and somebody changes `a` just before."""

        def publish(self) -> None:
            (root / "a").unlink()
            (root / "a").write_text("theirs")
            raise ToolError("The disk is full.")

    with workspace.stage("a", b"new", undoable=True) as a:
        with pytest.raises(
            ToolError, match=r"disk is full. These files were changed already(.|\n)*a \("
        ):
            publish_all([a, TheirsFirst()], ["a", "b"])  # type: ignore[list-item]
    assert files(root) == {"a": b"theirs"}


LIMITED = """
import json, resource, sys, trio
from nanobot.messages import ToolCall
from nanobot.tools import RunContext, Toolset, Workspace, execute
from nanobot.tools.builtin import apply_patch
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
edits = [
    {"path": "a", "action": "replace", "old_text": "old", "new_text": "new"},
    {"path": "deep/b", "action": "add", "new_text": "x" * 20_000},
]
call = ToolCall("1", "apply_patch", json.dumps({"edits": edits}))
context = RunContext(confined=Workspace(sys.argv[1]))
print(trio.run(execute, call, Toolset([apply_patch]), context).error)
"""


def test_a_disk_that_takes_no_more_leaves_every_file_as_it_was(root: Path) -> None:
    (root / "a").write_text("old")
    program = subprocess.run(
        [sys.executable, "-c", LIMITED, str(root)], capture_output=True, text=True, check=True
    )
    assert program.stdout == (
        "deep/b cannot be written: File too large. It is as it was before. No file was changed.\n"
    )
    assert files(root) == {"a": b"old"}
    assert sorted(root.rglob("*")) == [root / "a"]


async def test_cancels_at_any_moment_change_all_files_or_none(
    context: RunContext, root: Path
) -> None:
    names = [f"{n}" for n in range(10)]
    for name in names:
        (root / name).write_text("version 0 of it\n" + "filler\n" * 2000)
    threads = threading.active_count()
    version, changed = 0, 0
    for _ in range(60):
        edits = [
            replace(name, f"version {version} of it", f"version {version + 1} of it")
            for name in names
        ]
        with trio.move_on_after(random.uniform(0, 0.06)):
            await patch(context, *edits, add(f"new-{version}/x", "x"))
        versions = {content.split()[1] for name, content in files(root).items() if name in names}
        assert len(versions) == 1
        now = int(versions.pop())
        assert now in (version, version + 1)
        assert (root / f"new-{version}").exists() is (now > version) or now == version  # noqa: ASYNC240 - one name
        changed += now > version
        version = now
    assert changed
    assert not list(root.rglob("*.tmp"))  # noqa: ASYNC240 - a few names
    assert threading.active_count() <= threads + FILE_THREADS


async def test_patches_of_the_same_files_by_many_runs_at_once_all_stay(root: Path) -> None:
    (root / "a").write_text("".join(f"a{n}.\n" for n in range(12)))
    (root / "b").write_text("".join(f"b{n}.\n" for n in range(12)))
    failures: list[str] = []

    async def run(number: int) -> None:
        context = RunContext(confined=Workspace(root), session_key=f"user:{number}")
        edits = [
            replace("a", f"a{number}.", f"A{number}."),
            replace("b", f"b{number}.", f"B{number}."),
        ]
        random.shuffle(edits)
        result = await patch(context, *edits)
        failures.extend([] if result.ok else [str(result.error)])

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(run, number)
    changed = [n for n in range(12) if f"A{n}." in (root / "a").read_text().split()]  # noqa: ASYNC240 - one file
    assert changed == [n for n in range(12) if f"B{n}." in (root / "b").read_text().split()]  # noqa: ASYNC240 - one file
    assert len(changed) + len(failures) == 12
    assert failures == []


PATCH_FOR_EVER = """
import sys, trio
from nanobot.tools import RunContext, Workspace
from nanobot.tools.builtin.apply_patch import Edit, apply_patch
async def main():
    context = RunContext(confined=Workspace(sys.argv[1]))
    print("ready", flush=True)
    version = 0
    while True:
        old, new = f"version {version}.", f"version {version + 1}."
        await apply_patch(context, [Edit(name, "replace", old, new) for name in "abc"])
        version += 1
trio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_process_that_is_killed_leaves_whole_files_at_most_one_version_apart(root: Path) -> None:
    for _ in range(5):
        for name in "abc":
            (root / name).write_text("version 0.\n")
        program = subprocess.Popen(
            [sys.executable, "-c", PATCH_FOR_EVER, str(root)], stdout=subprocess.PIPE
        )
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        threading.Event().wait(random.uniform(0, 0.1))
        program.kill()
        program.communicate()
        contents = [(root / name).read_text() for name in "abc"]
        assert all(
            content.startswith("version ") and content.endswith(".\n") for content in contents
        )
        versions = [int(content[8:-2]) for content in contents]
        assert versions == sorted(versions, reverse=True)
        assert max(versions) - min(versions) <= 1
