"""Files inside the workspace can be opened, and nothing else, however one asks."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import ToolError
from nanobot.tools import Workspace
from nanobot.tools._descent import Descent, Walk
from nanobot.tools._fence import Fence
from nanobot.tools._replacement import name_draft
from nanobot.tools._resolution import Resolution

SECRET = "the secret"


@pytest.fixture(params=[True, False], ids=["folder descriptors", "resolved paths"])
def dir_fds(request: pytest.FixtureRequest) -> bool:
    """Both ways of opening: with folder descriptors, and the one for platforms that have none."""
    return bool(request.param)


@pytest.fixture
def outside(root: Path) -> Path:
    """A folder beside the workspace, with a secret in it."""
    folder = root.parent / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture
def workspace(root: Path, outside: Path, dir_fds: bool) -> Workspace:
    """A workspace with `a.txt` and `sub/b.txt`."""
    (root / "a.txt").write_text("a")
    (root / "sub").mkdir()
    (root / "sub" / "b.txt").write_text("b")
    return Workspace(root, dir_fds=dir_fds)


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    """Every test leaves as many open files as it found."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def read(workspace: Workspace, path: str) -> str:
    with workspace.open_read(path) as file:
        return file.read().decode()


def names(workspace: Workspace, path: str = ".") -> list[str]:
    with workspace.open_folder(path) as folder:
        return [entry.name for entry in folder.first(100, look_at=100).entries]


def test_paths_start_at_the_workspace_and_absolute_ones_may_lead_into_it(
    workspace: Workspace, root: Path
) -> None:
    for path in (
        "a.txt",
        "./a.txt",
        "sub/../a.txt",
        "sub//.././a.txt",
        str(root / "a.txt"),
        f"{root}//a.txt",
    ):
        assert read(workspace, path) == "a"
    for path in ("sub/b.txt", str(root / "sub" / "b.txt")):
        assert read(workspace, path) == "b"
    assert (
        names(workspace) == names(workspace, "") == names(workspace, str(root)) == ["a.txt", "sub"]
    )
    assert names(workspace, "sub/") == ["b.txt"]


def test_the_name_of_an_open_file_is_where_it_was_found(workspace: Workspace, root: Path) -> None:
    (root / "link").symlink_to("sub")
    with workspace.open_read("link/b.txt") as file:
        assert file.name == str(root / "sub" / "b.txt")


def test_a_workspace_may_itself_be_reached_by_a_link(
    workspace: Workspace, root: Path, dir_fds: bool
) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    linked = Workspace(link, dir_fds=dir_fds)
    assert linked.root == link
    assert read(linked, str(link / "a.txt")) == "a"
    assert read(linked, str(root / "a.txt")) == "a"
    assert linked.display(str(link / "a.txt")) == linked.display(str(root / "a.txt")) == "a.txt"


def test_links_inside_may_be_followed(workspace: Workspace, root: Path) -> None:
    (root / "relative").symlink_to("sub/b.txt")
    (root / "absolute").symlink_to(root / "sub")
    (root / "sub" / "up").symlink_to("../a.txt")
    (root / "chain").symlink_to("absolute/up")
    assert read(workspace, "relative") == "b"
    assert read(workspace, "absolute/b.txt") == "b"
    assert read(workspace, "chain") == "a"
    assert names(workspace, "absolute") == ["b.txt", "up"]


OUTSIDE = [
    "../outside/secret.txt",
    "sub/../../outside/secret.txt",
    "sub/../sub/../../outside/secret.txt",
    "../workspace/../outside/secret.txt",
    "{outside}/secret.txt",
    "{root}/../outside/secret.txt",
    "//{outside}/secret.txt",
    "{root}-other/secret.txt",
    "to-secret",
    "to-outside/secret.txt",
    "to-parent/outside/secret.txt",
    "sub/deep/secret.txt",
    "by-dots/secret.txt",
    "chain/secret.txt",
    "/etc/passwd",
    "/",
    "..",
    "sub/../..",
    "/proc/self/environ",
    "/proc/self/cwd/outside",
    "/dev/zero",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out(path: str, workspace: Workspace, root: Path, outside: Path) -> None:
    other = root.with_name("workspace-other")
    other.mkdir()
    (other / "secret.txt").write_text(SECRET)
    (root / "to-secret").symlink_to(outside / "secret.txt")
    (root / "to-outside").symlink_to(outside)
    (root / "to-parent").symlink_to("..")
    (root / "sub" / "deep").symlink_to("../../outside")
    (root / "by-dots").symlink_to("sub/../../outside")
    (root / "chain").symlink_to("sub/deep")
    path = path.format(root=root, outside=outside)
    for opened in (workspace.open_read, workspace.open_folder):
        with pytest.raises(ToolError, match=r"outside the workspace"):
            opened(path)
    with pytest.raises(ToolError, match=r"outside the workspace"):
        workspace.create_file(f"{path}/new.txt", b"x")
    assert sorted(file.name for file in outside.iterdir()) == ["secret.txt"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing.txt", "missing.txt does not exist"),
        ("missing/../a.txt", "does not exist"),
        ("sub", "sub is a folder, not a file"),
        (".", ". is a folder, not a file"),
        ("a.txt/x", "a part of this path is a file"),
        ("a\0.txt", "NUL"),
        ("~", "~ is not expanded"),
        ("~/.ssh/id_rsa", "~/.ssh/id_rsa: ~ is not expanded"),
        ("x" * 300, "longer than the file system allows"),
        ("x" * 5000, "5,000 characters; 4,096 are the limit"),
        ("file:///etc/passwd", "file:///etc/passwd does not exist"),
        ("line\nbreak\x1b", r"line\nbreak\x1b does not exist"),
        ("loop", "leads through more than 40 links"),
        ("loop/x", "leads through more than 40 links"),
    ],
)
def test_what_cannot_be_opened_is_told(
    path: str, said: str, workspace: Workspace, root: Path, dir_fds: bool
) -> None:
    (root / "loop").symlink_to("loop")
    if not dir_fds and "loop" in path:
        said = "loop"  # the platform's own words
    if not dir_fds and path == "missing/../a.txt":
        return  # resolved as text, this is a.txt
    with pytest.raises(ToolError) as caught:
        workspace.open_read(path)
    assert said in str(caught.value)


def test_a_path_that_goes_up_and_down_for_ever_ends(
    root: Path, workspace: Workspace, dir_fds: bool
) -> None:
    path = "sub/../" * 500 + "a.txt"
    if dir_fds:
        with pytest.raises(ToolError, match=r"too long a way"):
            workspace.open_read(path)
    else:
        assert read(workspace, path) == "a"


def test_a_missing_workspace_is_told(tmp_path: Path, dir_fds: bool) -> None:
    workspace = Workspace(tmp_path / "nowhere", dir_fds=dir_fds)
    with pytest.raises(ToolError, match=r"a\.txt does not exist"):
        workspace.open_read("a.txt")


def test_a_file_is_no_folder(workspace: Workspace) -> None:
    with pytest.raises(ToolError, match=r"a\.txt is a file, not a folder"):
        workspace.open_folder("a.txt")
    with pytest.raises(ToolError, match="does not exist"):
        workspace.open_folder("missing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs on this platform")
def test_fifos_sockets_and_devices_are_never_opened(
    workspace: Workspace, root: Path, dir_fds: bool
) -> None:
    os.mkfifo(root / "fifo")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.path.relpath(root / "socket"))
    (root / "to-fifo").symlink_to("fifo")
    kinds = {"fifo": "FIFO", "to-fifo": "FIFO", "socket": "socket"}
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        try:
            os.mknod(root / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        except OSError:  # a container that may not
            pass
        else:
            kinds["zero"] = "device"
    for name, kind in kinds.items():
        with pytest.raises(ToolError, match=f"is a {kind}, not a regular file"):
            workspace.open_read(name)
    listening.close()
    anywhere = Workspace(root, restrict=False, dir_fds=dir_fds)
    for path in ("/dev/zero", "/dev/null", "/dev/tty", "fifo"):
        with pytest.raises(ToolError, match="not a regular file"):
            anywhere.open_read(path)


def test_without_restriction_files_anywhere_can_be_opened(
    root: Path, outside: Path, dir_fds: bool
) -> None:
    (root / "a.txt").write_text("a")
    (root / "link").symlink_to(outside)
    anywhere = Workspace(root, restrict=False, dir_fds=dir_fds)
    assert not anywhere.restrict
    assert read(anywhere, "a.txt") == "a"
    for path in (
        str(outside / "secret.txt"),
        "../outside/secret.txt",
        "link/secret.txt",
        "/.." + str(outside / "secret.txt"),
    ):
        assert read(anywhere, path) == SECRET
    assert names(anywhere, "/") != []


@pytest.fixture
def guarded(root: Path, outside: Path, dir_fds: bool) -> Callable[[bool], Workspace]:
    """A workspace in which a state folder and a config file are forbidden, restricted or not."""
    (root / "state").mkdir()
    (root / "state" / "sessions.db").write_text(SECRET)
    (root / "config.json").write_text(SECRET)
    forbidden = [root / "state", root / "config.json", outside, root / "not there"]
    return lambda restrict: Workspace(root, restrict=restrict, forbidden=forbidden, dir_fds=dir_fds)


@pytest.mark.parametrize("restrict", [True, False])
@pytest.mark.parametrize(
    "path",
    [
        "state/sessions.db",
        "config.json",
        "{root}/state/sessions.db",
        "x/../state/sessions.db",
        "to-state/sessions.db",
        "to-config",
        "hard-linked-config",
        "state/../config.json",
    ],
)
def test_the_forbidden_is_not_opened_by_any_name(
    path: str, restrict: bool, root: Path, guarded: Callable[[bool], Workspace]
) -> None:
    (root / "x").mkdir()
    (root / "to-state").symlink_to("state")
    (root / "to-config").symlink_to(root / "config.json")
    (root / "hard-linked-config").hardlink_to(root / "config.json")
    with pytest.raises(ToolError, match="belongs to the program itself"):
        guarded(restrict).open_read(path.format(root=root))


@pytest.mark.parametrize("restrict", [True, False])
def test_forbidden_folders_are_neither_listed_nor_written_to(
    restrict: bool, root: Path, outside: Path, guarded: Callable[[bool], Workspace]
) -> None:
    workspace = guarded(restrict)
    with pytest.raises(ToolError, match="belongs to the program itself"):
        workspace.open_folder("state")
    with (
        workspace.open_folder(".") as folder,
        pytest.raises(ToolError, match="belongs to the program itself"),
    ):
        folder.open_folder("state")
    for path in ("state/new.txt", "state/a/new.txt", "not there", "not there/new.txt"):
        with pytest.raises(ToolError, match="belongs to the program itself"):
            workspace.create_file(path, b"x")
    assert [path.name for path in (root / "state").iterdir()] == ["sessions.db"]
    assert not (root / "not there").exists()
    if not restrict:
        with pytest.raises(ToolError, match="belongs to the program itself"):
            workspace.open_read(str(outside / "secret.txt"))


def test_a_file_is_created_with_its_folders_and_never_over_another(
    workspace: Workspace, root: Path
) -> None:
    workspace.create_file("new/folder/c.txt", b"c")
    assert (root / "new/folder/c.txt").read_bytes() == b"c"
    with pytest.raises(FileExistsError):
        workspace.create_file("new/folder/c.txt", b"other")
    with pytest.raises(FileExistsError):
        workspace.create_file("a.txt", b"other")
    (root / "dangling").symlink_to("nowhere")
    (root / "into").symlink_to("sub")
    workspace.create_file("into/d.txt", b"d")
    assert (root / "sub" / "d.txt").read_bytes() == b"d"
    with pytest.raises(ToolError, match="a part of this path is a file"):
        workspace.create_file("a.txt/x", b"x")
    assert (root / "a.txt").read_text() == "a"
    assert [file.name for file in root.rglob("*.tmp")] == []


def test_a_folder_is_not_created_over(workspace: Workspace) -> None:
    with pytest.raises(FileExistsError):
        workspace.create_file("sub", b"x")


def test_a_draft_gets_its_name_on_file_systems_without_hard_links_too(root: Path) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    (root / "draft").write_text("new")
    (root / "taken").write_text("old")
    folder = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(FileExistsError):
            name_draft("draft", "taken", folder, link=no_links)
        name_draft("draft", "free", folder, link=no_links)
    finally:
        os.close(folder)
    assert {file.name: file.read_text() for file in root.iterdir()} == {
        "free": "new",
        "taken": "old",
    }


def test_many_writers_of_one_name_leave_one_whole_file(
    workspace: Workspace, root: Path, dir_fds: bool
) -> None:
    if not dir_fds:
        return  # resolved paths look before they rename, and say so
    won: list[int] = []
    together = threading.Barrier(8)

    def write(number: int) -> None:
        together.wait()
        try:
            workspace.create_file("race/one.txt", str(number).encode() * 10_000)
        except FileExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (root / "race/one.txt").read_bytes() == str(won[0]).encode() * 10_000
    assert len(list((root / "race").iterdir())) == 1


def swap(root: Path, outside: Path, stop: threading.Event) -> None:
    """Exchange `folder` for a link, and `door` for a link elsewhere, again and again, as fast as possible."""
    folder, aside, link = root / "folder", root / "aside", root / "link"
    while not stop.is_set():
        folder.rename(aside)
        link.symlink_to(outside)
        link.rename(folder)
        folder.unlink()
        aside.rename(folder)
        for target in (outside, Path("inside")):
            link.symlink_to(target)
            link.rename(root / "door")


class Swapping(Fence, frozen=True):
    """Looks at a file, and puts a FIFO in its place before it is opened."""

    def refuse_special(self, found: os.stat_result, path: str) -> None:
        super().refuse_special(found, path)
        Path(self.root, path).unlink()
        os.mkfifo(Path(self.root, path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_has_become_a_fifo_since_it_was_looked_at_is_refused_without_a_wait(
    root: Path, dir_fds: bool
) -> None:
    (root / "a.txt").write_text("a")
    fence = Swapping(root=str(root), given=str(root), restrict=True, forbidden=())
    door = Descent(fence) if dir_fds else Resolution(fence)
    with pytest.raises(ToolError, match="is a FIFO"):
        door.open_file("a.txt")


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="needs folder descriptors")
def test_a_link_swapped_in_at_any_moment_opens_nothing_outside(root: Path, outside: Path) -> None:
    (root / "folder").mkdir()
    (root / "folder" / "secret.txt").write_text("harmless")
    (root / "inside").mkdir()
    (root / "door").symlink_to("inside")
    workspace = Workspace(root)
    stop = threading.Event()
    swapper = threading.Thread(target=swap, args=(root, outside, stop))
    swapper.start()
    opened, refused = 0, 0
    try:
        for number in range(3000):
            try:
                assert read(workspace, "folder/secret.txt") == "harmless"
                assert names(workspace, "folder") == ["secret.txt"]
                workspace.create_file(f"door/{number}", b"")
                opened += 1
            except ToolError:
                refused += 1
    finally:
        stop.set()
        swapper.join()
    assert opened
    assert refused
    assert [file.name for file in outside.iterdir()] == ["secret.txt"]
    assert len(list((root / "inside").iterdir())) == opened


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


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "renameat2"),
    reason="needs renameat2 of Linux",
)
def test_a_program_that_exchanges_names_all_the_time_gets_nothing_outside_opened(
    root: Path, outside: Path
) -> None:
    (root / "folder").mkdir()
    (root / "folder" / "secret.txt").write_text("harmless")
    (root / "file.txt").write_text("harmless")
    (root / "link-to-folder").symlink_to(outside)
    (root / "link-to-file").symlink_to(outside / "secret.txt")
    (root / "go-on").write_text("")
    workspace = Workspace(root)
    opened, refused = 0, 0
    program = subprocess.Popen([sys.executable, "-c", EXCHANGE, str(root)], stdout=subprocess.PIPE)
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        for _ in range(5000):
            for path in ("folder/secret.txt", "file.txt"):
                try:
                    assert read(workspace, path) == "harmless"
                    opened += 1
                except ToolError:
                    refused += 1
    finally:
        (root / "go-on").unlink()
        program.communicate()
    assert opened
    assert refused


def test_what_has_become_a_link_since_it_was_looked_at_is_not_entered(
    root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside)
    with (
        Walk(Fence(str(root), str(root), True, ()), ".") as walk,
        pytest.raises(OSError, match="link"),
    ):
        walk.enter("link")


def test_a_folder_opens_no_folder_through_a_link(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside)
    with workspace.open_folder() as folder:
        with folder.open_folder("sub") as below:
            assert [entry.name for entry in below.first(9, look_at=9).entries] == ["b.txt"]
        for name in ("link", "a.txt"):
            with pytest.raises(OSError, match=name):
                folder.open_folder(name)


PARTS = st.sampled_from(
    ["..", ".", "", "sub", "a.txt", "up", "out", "in", "deep", "missing", "b.txt", "secret.txt"]
)


@given(parts=st.lists(PARTS, max_size=8), absolute=st.booleans())
def test_any_path_opens_what_the_system_would_open_if_that_is_inside(
    parts: list[str], absolute: bool, maze: Path
) -> None:
    path = "/".join([*([str(maze)] if absolute else []), *parts]) or "."
    meant = Path(os.path.realpath(maze / path))
    try:
        content = read(Workspace(maze), path)
    except ToolError:
        assert (
            not (meant.is_file() and meant.is_relative_to(maze))
            or "missing" in parts
            or ".." in parts
            or "" in parts
        )
    else:
        assert meant.is_relative_to(maze)
        assert content == meant.read_text()


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace full of links, in a folder with a secret."""
    around = tmp_path_factory.mktemp("maze").resolve()
    root = around / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "sub" / "b.txt").write_text("b")
    (around / "secret.txt").write_text(SECRET)
    (root / "sub" / "up").symlink_to("..")
    (root / "sub" / "deep" / "up").symlink_to("../up")
    (root / "up").symlink_to("..")
    (root / "out").symlink_to(around)
    (root / "in").symlink_to(root / "sub")
    (root / "sub" / "out").symlink_to("../../secret.txt")
    return root
