"""Where things are, as pure functions, and how a workspace keeps its sessions."""

from __future__ import annotations

import os
import re
import shutil
import stat
import threading
from pathlib import Path

import pytest

from nanobot.config import (
    claim_sessions_folder,
    default_config_path,
    expanded,
    read_workspace_id,
    sessions_folder,
    state_folder,
    workspace_id_file,
    workspace_path,
)
from nanobot.errors import ConfigError
from tests.special_files import any_special_file, make_special


def test_paths_follow_the_home_folder_they_are_given() -> None:
    env = {"HOME": "/home/alice"}
    assert default_config_path(env) == Path("/home/alice/.nanobot/config.json")
    assert workspace_path("~/.nanobot/workspace", env) == Path("/home/alice/.nanobot/workspace")
    assert expanded("~", env) == Path("/home/alice")
    assert expanded("/a/../b", env) == Path("/b")
    assert expanded("relative", env) == Path.cwd() / "relative"
    assert default_config_path({}).is_absolute()


def test_state_lives_beside_the_configuration() -> None:
    config = Path("/etc/bot/config.json")
    assert state_folder(config) == Path("/etc/bot")
    assert sessions_folder(config, "f" * 32) == Path("/etc/bot/sessions") / ("f" * 32)
    assert workspace_id_file(Path("/w")) == Path("/w/.nanobot/workspace-id")


@pytest.mark.parametrize("text", ["", "  ", "a\0b"])
def test_a_workspace_must_be_a_path(text: str) -> None:
    with pytest.raises(ConfigError, match=r"agents\.defaults\.workspace"):
        workspace_path(text)


class Instance:
    """One configuration folder, and workspaces beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "bot" / "config.json"

    def claim(self, workspace: str) -> Path:
        return claim_sessions_folder(self.config, self.folder / workspace)


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


def test_a_new_workspace_gets_an_id_and_a_private_folder(instance: Instance) -> None:
    folder = instance.claim("work")
    assert re.fullmatch("[0-9a-f]{32}", folder.name)
    assert folder.parent == instance.folder / "bot" / "sessions"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert read_workspace_id(instance.folder / "work") == folder.name
    assert (folder / ".workspace").read_text().strip() == str(instance.folder / "work")
    left = [entry.name for entry in (instance.folder / "work" / ".nanobot").iterdir()]
    assert left == ["workspace-id"]


def test_the_same_workspace_finds_its_folder_again(instance: Instance) -> None:
    assert instance.claim("work") == instance.claim("work")
    assert instance.claim("work") != instance.claim("other")


def test_a_link_to_a_workspace_is_that_workspace(instance: Instance) -> None:
    folder = instance.claim("work")
    (instance.folder / "link").symlink_to(instance.folder / "work")
    assert instance.claim("link") == folder


def test_a_moved_workspace_keeps_its_sessions(instance: Instance) -> None:
    folder = instance.claim("work")
    (instance.folder / "work").rename(instance.folder / "moved")
    assert instance.claim("moved") == folder
    assert (folder / ".workspace").read_text().strip() == str(instance.folder / "moved")


def test_a_copy_starts_its_own_sessions_and_the_original_keeps_its(instance: Instance) -> None:
    folder = instance.claim("work")
    shutil.copytree(instance.folder / "work", instance.folder / "copy")
    copied = instance.claim("copy")
    assert copied != folder
    assert instance.claim("work") == folder
    assert instance.claim("copy") == copied


def test_a_workspace_that_lost_its_id_gets_it_back_by_its_path(instance: Instance) -> None:
    folder = instance.claim("work")
    shutil.rmtree(instance.folder / "work" / ".nanobot")
    assert instance.claim("work") == folder


@pytest.mark.parametrize("marker", ["", "not an id", "F" * 32, "f" * 33, "../../etc"])
def test_a_spoiled_id_is_replaced(instance: Instance, marker: str) -> None:
    folder = instance.claim("work")
    workspace_id_file(instance.folder / "work").write_text(marker)
    assert read_workspace_id(instance.folder / "work") is None
    assert instance.claim("work") == folder
    assert read_workspace_id(instance.folder / "work") == folder.name


def test_an_id_from_an_older_version_is_taken_over(instance: Instance) -> None:
    marker = workspace_id_file(instance.folder / "work")
    marker.parent.mkdir(parents=True)
    marker.write_text("0123456789abcdef" * 2)
    assert instance.claim("work").name == "0123456789abcdef" * 2


def test_a_workspace_that_cannot_hold_an_id_works_too(instance: Instance) -> None:
    (instance.folder / "work").mkdir()
    (instance.folder / "work" / ".nanobot").write_text("a file where the folder should be")
    folder = instance.claim("work")
    assert instance.claim("work") == folder


def test_an_id_that_can_neither_be_read_nor_replaced_is_done_without(instance: Instance) -> None:
    workspace_id_file(instance.folder / "work").mkdir(parents=True)
    folder = instance.claim("work")
    assert instance.claim("work") == folder


@any_special_file
def test_an_id_that_is_no_file_is_not_waited_for(instance: Instance, kind: str) -> None:
    make_special(workspace_id_file(instance.folder / "work"), kind)
    folder = instance.claim("work")
    assert instance.claim("work") == folder


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_workspace_whose_sessions_name_no_owner_keeps_them(instance: Instance) -> None:
    folder = instance.claim("work")
    owner = folder / ".workspace"
    owner.write_bytes(b"\0" * 20)  # after a power loss
    assert instance.claim("work") == folder
    owner.unlink()
    os.mkfifo(owner)
    assert instance.claim("work") == folder
    assert owner.read_text() == f"{(instance.folder / 'work').resolve()}\n"


def test_many_that_claim_at_once_agree(instance: Instance) -> None:
    claimed: list[Path] = []
    threads = [
        threading.Thread(target=lambda: claimed.append(instance.claim("work"))) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 12
    assert len(set(claimed)) == 1


@pytest.mark.parametrize("workspace", [".", "bot", "bot/sessions"])
def test_sessions_never_lie_inside_the_workspace(instance: Instance, workspace: str) -> None:
    with pytest.raises(ConfigError, match="contains the folder"):
        instance.claim(workspace)
    assert not (instance.folder / "bot" / "sessions").exists()


def test_a_file_in_the_way_is_named(instance: Instance) -> None:
    (instance.folder / "work").write_text("")
    with pytest.raises(ConfigError, match="work"):
        instance.claim("work")
