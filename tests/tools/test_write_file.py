"""`write_file`: the whole content or none of it, in its own place, and nowhere else."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.errors import ToolError
from nanobot.messages import ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, Workspace, execute
from nanobot.tools._fence import Fence
from nanobot.tools._replacement import (
    Before,
    ContentChanged,
    MadeFolders,
    Replacement,
    wait_for_lock,
)
from nanobot.tools._threads import FILE_THREADS
from nanobot.tools.builtin import builtin_tools, write_file

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


async def write(context: RunContext, path: str, content: str) -> ToolResult:
    arguments = json.dumps({"path": path, "content": content})
    return await execute(ToolCall("1", "write_file", arguments), Toolset([write_file]), context)


def files(root: Path) -> dict[str, str]:
    """What is in a folder: regular files by their paths, with their contents."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def outside(root: Path) -> Path:
    """A folder beside the workspace, with a file in it that nothing may change."""
    folder = root.parent / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(params=[True, False], ids=["folder descriptors", "resolved paths"])
def workspace(request: pytest.FixtureRequest, root: Path) -> Workspace:
    """Both ways of opening files."""
    return Workspace(root, dir_fds=bool(request.param))


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    """Every test that runs on its own thread leaves as many open files as it found."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def test_it_is_a_built_in_tool_that_runs_alone() -> None:
    assert write_file in builtin_tools()
    assert not write_file.traits.read_only
    assert not write_file.traits.on_host
    schema = write_file.spec.parameters
    assert list(schema["properties"]) == schema["required"] == ["path", "content"]


async def test_a_file_is_created_with_its_folders(context: RunContext, root: Path) -> None:
    result = await write(context, "a/b/c.txt", "one\ntwo\n")
    assert result.message.content == "Created a/b/c.txt: 8 characters, 2 lines."
    assert files(root) == {"a/b/c.txt": "one\ntwo\n"}
    assert (await write(context, "empty", "")).message.content == (
        "Created empty: 0 characters, 0 lines."
    )
    assert (await write(context, "line", "no end")).message.content == (
        "Created line: 6 characters, 1 line."
    )


async def test_a_file_is_replaced_byte_for_byte_and_stays_as_it_is_otherwise(
    context: RunContext, root: Path
) -> None:
    file = root / "run.sh"
    file.write_text("old")
    file.chmod(0o750)
    result = await write(context, str(file), "é\r\nmixed\n\0\rend\u2028")
    assert str(result.message.content).startswith("Replaced run.sh: 15 characters")
    assert file.read_bytes() == "é\r\nmixed\n\0\rend\u2028".encode()  # noqa: ASYNC240 - one file
    assert stat.S_IMODE(file.stat().st_mode) == 0o750  # noqa: ASYNC240 - one file
    assert [each.name for each in root.iterdir()] == ["run.sh"]  # noqa: ASYNC240 - one name


def test_a_new_file_has_the_permissions_that_the_system_gives(
    workspace: Workspace, root: Path
) -> None:
    (root / "other").touch()
    workspace.write_file("new", b"x")
    assert (root / "new").stat().st_mode == (root / "other").stat().st_mode


def test_the_right_to_run_as_somebody_else_is_not_kept(workspace: Workspace, root: Path) -> None:
    file = root / "program"
    file.write_text("trusted")
    file.chmod(0o4755)
    workspace.write_file("program", b"not so")
    assert stat.S_IMODE(file.stat().st_mode) == 0o755


def test_a_link_inside_is_written_through_and_stays_a_link(
    workspace: Workspace, root: Path
) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "file").write_text("old")
    (root / "link").symlink_to("sub/file")
    (root / "dangling").symlink_to("sub/new")
    assert workspace.write_file("link", b"1")
    assert not workspace.write_file("dangling", b"2")
    assert (root / "link").is_symlink()
    assert (root / "dangling").is_symlink()
    assert files(root) == {"sub/file": "1", "sub/new": "2"}


def test_another_hard_link_keeps_the_old_content(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "inside").hardlink_to(outside / "secret.txt")
    workspace.write_file("inside", b"mine")
    assert files(outside) == {"secret.txt": "secret"}


OUTSIDE = [
    "../outside/secret.txt",
    "sub/../../outside/new",
    "/etc/nanobot-was-here",
    "{outside}/secret.txt",
    "to-secret",
    "to-missing",
    "to-outside/new",
    "to-outside/new/deeper",
    "/proc/self/cwd/new",
    "/dev/null",
    "",
    ".",
    "sub",
    "sub/",
    "..",
    "~/.bashrc",
    "a\0b",
    "x" * 300,
    "file/below",
    "device",
    "fifo",
    "loop",
    "state/sessions.db",
    "state-link/new",
    "by-hard-link",
    "/".join("d" * 100),
]


@pytest.mark.parametrize("path", OUTSIDE, ids=range(len(OUTSIDE)))
def test_no_path_writes_where_it_may_not(
    path: str, root: Path, outside: Path, workspace: Workspace
) -> None:
    for folder in ("sub", "state"):
        (root / folder).mkdir()
    (root / "state" / "sessions.db").write_text("state")
    (root / "by-hard-link").hardlink_to(root / "state" / "sessions.db")
    (root / "state-link").symlink_to("state")
    (root / "to-secret").symlink_to(outside / "secret.txt")
    (root / "to-missing").symlink_to("../outside/new")
    (root / "to-outside").symlink_to(outside)
    (root / "device").symlink_to("/dev/null")
    (root / "loop").symlink_to("loop")
    (root / "file").write_text("file")
    os.mkfifo(root / "fifo")
    dir_fds = "Descent" in repr(workspace._door)
    if path.startswith("d/d") and not dir_fds:
        return  # only held folders are bounded
    forbidding = Workspace(
        root, dir_fds=dir_fds, forbidden=[root / "state", root / "state" / "sessions.db"]
    )
    before, names = (files(root), files(outside)), sorted(root.rglob("*"))
    with pytest.raises(ToolError):
        forbidding.write_file(path.format(outside=outside), b"hostile")
    assert (files(root), files(outside)) == before
    assert sorted(root.rglob("*")) == names


@linux
@pytest.mark.parametrize("path", ["/dev/full", "/dev/null", "/dev/tty"])
def test_devices_stay_closed_even_if_nothing_is_confined(path: str, root: Path) -> None:
    with pytest.raises(ToolError):
        Workspace(root, restrict=False).write_file(path, b"x")


def test_half_of_a_character_is_refused_before_anything_is_opened(
    context: RunContext, root: Path
) -> None:
    with pytest.raises(ToolError, match=r"half of a character \(U\+D83D at 1\)"):
        trio.run(write_file, context, "a/b.txt", "x\ud83d")
    assert list(root.iterdir()) == []


@linux
def test_names_that_are_no_text_are_written(workspace: Workspace, root: Path) -> None:
    workspace.write_file("new\nline", b"1")
    workspace.write_file("latin-\udce9", b"2")
    assert sorted(os.fsencode(file.name) for file in root.iterdir()) == [
        b"latin-\xe9",
        b"new\nline",
    ]


LIMITED = """
import resource, sys
from nanobot.errors import ToolError
from nanobot.tools import Workspace
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
workspace = Workspace(sys.argv[1], dir_fds=sys.argv[2] == "True")
for path in ("old.txt", "new.txt", "a/b/new.txt"):
    try:
        workspace.write_file(path, b"x" * 20_000)
    except ToolError as error:
        print(error)
"""


@pytest.mark.parametrize("dir_fds", [True, False])
def test_a_disk_that_takes_no_more_leaves_everything_as_it_was(root: Path, dir_fds: bool) -> None:
    (root / "old.txt").write_text("old")
    program = subprocess.run(
        [sys.executable, "-c", LIMITED, str(root), str(dir_fds)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert program.stdout.splitlines() == [
        f"{name} cannot be written: File too large. It is as it was before."
        for name in ("old.txt", "new.txt", "a/b/new.txt")
    ]
    assert sorted(root.rglob("*")) == [root / "old.txt"]
    assert files(root) == {"old.txt": "old"}


@linux
@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount")
def test_a_full_file_system_is_told_and_changes_nothing(root: Path) -> None:
    script = (
        "mount -t tmpfs -o size=64k none . && cp /dev/null old.txt && echo old > old.txt && "
        f'exec {sys.executable} -c "\nfrom nanobot.tools import Workspace\n'
        "try: Workspace('.').write_file('old.txt', b'x' * 200_000)\n"
        "except Exception as error: print(error)\n"
        "import os; print(sorted(os.listdir('.')), open('old.txt').read())\""
    )
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    program = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if program.returncode != 0:
        pytest.skip(f"no mounts here: {program.stderr[-200:]}")
    assert "old.txt cannot be written: No space left on device" in program.stdout
    assert "['old.txt'] old\n" in program.stdout


UNPRIVILEGED = """
import os, sys
from nanobot.errors import ToolError
from nanobot.tools import Workspace
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
workspace = Workspace(sys.argv[1], dir_fds=sys.argv[2] == "True")
for path in ("locked/new.txt", "locked/old.txt", "locked/a/b.txt", "read-only.txt"):
    try:
        workspace.write_file(path, b"x")
        print("written")
    except ToolError as error:
        print(error)
"""


@pytest.mark.parametrize("dir_fds", [True, False])
def test_what_is_read_only_stays_as_it_is(root: Path, dir_fds: bool) -> None:
    if os.getuid() == 0:
        for folder in [root, *root.parents][:5]:
            if str(folder).startswith(("/tmp/", "/var/")):
                folder.chmod(0o755)
    (root / "locked").mkdir()
    (root / "locked" / "old.txt").write_text("old")
    (root / "read-only.txt").write_text("old")
    (root / "read-only.txt").chmod(0o444)
    (root / "locked").chmod(0o555)
    root.chmod(0o777)
    program = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(root), str(dir_fds)],
        capture_output=True,
        text=True,
        check=False,
    )
    (root / "locked").chmod(0o755)
    if program.returncode != 0:
        pytest.skip(f"cannot become somebody else here: {program.stderr[-200:]}")
    assert program.stdout.count("permission denied") == 4
    assert files(root) == {"locked/old.txt": "old", "read-only.txt": "old"}


def test_only_the_expected_content_is_replaced(workspace: Workspace, root: Path) -> None:
    (root / "a").write_text("one")
    assert workspace.write_file("a", b"two", expected=b"one")
    for expected in (b"one", b"tw", b"two!", b""):
        with pytest.raises(ContentChanged, match="a was changed by somebody else"):
            workspace.write_file("a", b"three", expected=expected)
    with pytest.raises(ContentChanged):
        workspace.write_file("new/b", b"x", expected=b"")
    with pytest.raises(FileExistsError):
        workspace.write_file("a", b"x", expected=Before.NOTHING)
    assert not workspace.write_file("new/c", b"x", expected=Before.NOTHING)
    assert files(root) == {"a": "two", "new/c": "x"}


def test_what_changes_between_the_draft_and_its_publishing_is_left_alone(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "a").write_text("old")
    with workspace.stage("a", b"new", expected=b"old") as draft:
        (root / "a").write_text("new idea")
        with pytest.raises(ContentChanged):
            draft.publish()
    with workspace.stage("b", b"new", expected=Before.NOTHING) as draft:
        (root / "b").write_text("theirs")
        with pytest.raises(FileExistsError):
            draft.publish()
    with workspace.stage("c", b"new") as draft:
        (root / "c").symlink_to(outside / "secret.txt")
        with pytest.raises(ToolError, match="replaced by a link"):
            draft.publish()
    with workspace.stage("d", b"new") as draft:
        (root / "d").mkdir()
        with pytest.raises(ToolError, match="is a folder"):
            draft.publish()
    assert files(root) == {"a": "new idea", "b": "theirs"}
    assert files(outside) == {"secret.txt": "secret"}


def test_a_published_file_can_be_taken_back_until_the_block_ends(
    workspace: Workspace, root: Path
) -> None:
    (root / "a").write_text("old")
    (root / "other").hardlink_to(root / "a")
    with workspace.stage("a", b"new", undoable=True) as draft:
        draft.publish()
        assert (root / "a").read_text() == "new"
        draft.undo()
    assert (root / "a").samefile(root / "other")
    with workspace.stage("x/y/b", b"new", undoable=True) as draft:
        draft.publish()
        draft.undo()
    assert sorted(root.iterdir()) == [root / "a", root / "other"]
    with workspace.stage("a", b"new", undoable=True) as draft:
        draft.publish()
        (root / "a").unlink()
        (root / "a").write_text("theirs")
        with pytest.raises(ContentChanged):
            draft.undo()
    assert files(root) == {"a": "theirs", "other": "old"}


@linux
def test_a_folder_that_a_foreign_program_keeps_locked_is_told(root: Path) -> None:
    theirs, ours = os.open(root, os.O_RDONLY), os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(ToolError, match=r"locked this folder for longer than 0\.05 s"):
            wait_for_lock(ours, 0.05)
    finally:
        os.close(theirs)
    wait_for_lock(ours, 0.0)
    os.close(ours)


EXCHANGE = """
import ctypes, os, sys
rename = ctypes.CDLL(None).renameat2  # the one way to exchange two names in one step
os.chdir(sys.argv[1])
print("ready", flush=True)
while os.path.exists("go-on"):
    for _ in range(1000):
        rename(-100, b"folder", -100, b"link-to-folder", 2)
        rename(-100, b"file.txt", -100, b"link-to-file", 2)
"""


@linux
def test_a_program_that_exchanges_names_all_the_time_gets_nothing_outside_written(
    root: Path, outside: Path
) -> None:
    (root / "folder").mkdir()
    (root / "folder" / "secret.txt").write_text("harmless")
    (root / "file.txt").write_text("harmless")
    (root / "link-to-folder").symlink_to(outside)
    (root / "link-to-file").symlink_to(outside / "secret.txt")
    (root / "go-on").write_text("")
    workspace = Workspace(root)
    written, refused = 0, 0
    program = subprocess.Popen([sys.executable, "-c", EXCHANGE, str(root)], stdout=subprocess.PIPE)
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        for number in range(600):
            for path in ("folder/secret.txt", "file.txt", f"folder/{number}", f"folder/{number}/x"):
                try:
                    workspace.write_file(path, b"written")
                    written += 1
                except ToolError:
                    refused += 1
    finally:
        (root / "go-on").unlink()
        program.communicate()
    assert written
    assert refused
    assert files(outside) == {"secret.txt": "secret"}
    assert sorted(outside.iterdir()) == [outside / "secret.txt"]
    assert not list(root.rglob("*.tmp"))


def test_whoever_reads_sees_one_whole_content(root: Path, workspace: Workspace) -> None:
    contents = [bytes([65 + n]) * (50_000 + n) for n in range(4)]
    (root / "a").write_bytes(contents[0])
    stop = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add((root / "a").read_bytes())

    def write(content: bytes) -> None:
        for _ in range(30):
            workspace.write_file("a", content)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert seen <= set(contents)
    assert [file.name for file in root.iterdir()] == ["a"]


WRITE_FOR_EVER = """
import sys
from nanobot.tools import Workspace
workspace = Workspace(sys.argv[1])
print("ready", flush=True)
while True:
    for letter in b"ab":
        workspace.write_file("a", bytes([letter]) * 100_000)
"""


@linux
def test_a_process_that_is_killed_leaves_a_whole_file(root: Path) -> None:
    for _ in range(5):
        program = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, str(root)], stdout=subprocess.PIPE
        )
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        threading.Event().wait(random.uniform(0, 0.05))
        program.send_signal(signal.SIGKILL)
        program.communicate()
        if (root / "a").exists():
            content = (root / "a").read_bytes()
            assert content in (b"a" * 100_000, b"b" * 100_000)
    Workspace(root).write_file("a", b"and the folder is not locked")


async def test_cancels_at_any_moment_leave_the_old_or_the_new_file_and_nothing_else(
    context: RunContext, root: Path
) -> None:
    (root / "a").write_text("0" * 1000)
    threads = threading.active_count()
    whole = {"0" * 1000}
    for n in range(60):
        content = str(n % 10) * (n * 10_000)
        whole.add(content)
        with trio.move_on_after(random.uniform(0, 0.002)):
            await write(context, "a", content)
            await write(context, f"deep/{n}/b", content)
        assert (root / "a").read_text() in whole  # noqa: ASYNC240 - one file
    assert not list(root.rglob("*.tmp"))  # noqa: ASYNC240 - a few names
    assert threading.active_count() <= threads + FILE_THREADS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(content=st.binary(max_size=200), old=st.none() | st.binary(max_size=50))
def test_any_bytes_come_out_as_they_went_in(
    content: bytes, old: bytes | None, root: Path, workspace: Workspace
) -> None:
    file = root / "a"
    file.unlink(missing_ok=True)
    if old is not None:
        file.write_bytes(old)
    assert workspace.write_file("a", content) == (old is not None)
    assert file.read_bytes() == content


def test_what_is_kept_for_undoing_is_copied_where_there_are_no_hard_links(root: Path) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    file = root / "a"
    file.write_text("old")
    file.chmod(0o640)
    draft = Replacement(
        Fence(str(root), str(root), True, ()),
        "a",
        str(file),
        None,
        str(file),
        MadeFolders(),
        b"new",
        Before.ANYTHING,
        undoable=True,
        link=no_links,
    )
    draft.publish()
    assert files(root)["a"] == "new"
    draft.undo()
    draft.close()
    assert files(root) == {"a": "old"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
