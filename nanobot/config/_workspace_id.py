"""A workspace and its sessions find each other by an id, also after the workspace was moved."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from nanobot._regular_file import read_regular
from nanobot.errors import ConfigError

from ._paths import sessions_folder, state_folder, workspace_id_file

__all__ = ["claim_sessions_folder", "read_workspace_id", "refuse_sessions_inside"]

_ID = re.compile(r"[0-9a-f]{32}")
_OWNER = ".workspace"
# An id or a path; what is longer was not written by us.
_LONGEST_MARKER = 8192
# Two are enough whoever else is at work; what fails this often is not a race.
_ATTEMPTS = 8


def read_workspace_id(workspace: Path) -> str | None:
    """The id in a workspace, or None when it has none yet. Nothing is created."""
    text = _read(workspace_id_file(workspace)) or ""
    return text if _ID.fullmatch(text) else None


def claim_sessions_folder(config_path: Path, workspace: Path) -> Path:
    """Create the workspace if needed, give it an id, and return the private folder for its sessions.

    The id lives in the workspace, the workspace's path beside the sessions. A moved workspace keeps its sessions; a
    copy, whose original is still there, starts its own; one that lost its id gets it back by its path. Processes that
    open a new workspace at the same moment agree.

    Raises:
      ConfigError: A folder cannot be made, or the sessions would lie inside the workspace, within reach of the tools.
    """
    refuse_sessions_inside(config_path, workspace)
    workspace = Path(os.path.realpath(workspace))
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        folder = sessions_folder(config_path, _claimed_id(config_path, workspace))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _read(folder / _OWNER) != str(workspace):
            _write(folder / _OWNER, str(workspace))
    except OSError as error:
        raise ConfigError(
            f"Cannot use {error.filename or workspace}: {error.strerror or error}"
        ) from error
    return folder


def refuse_sessions_inside(config_path: Path, workspace: Path) -> None:
    """See that the sessions do not lie inside the workspace. Creates nothing.

    Raises:
      ConfigError: They would.
    """
    workspace = Path(os.path.realpath(workspace))
    state = Path(os.path.realpath(state_folder(config_path)))
    if (state / "sessions").is_relative_to(workspace):
        raise ConfigError(
            f"The workspace {workspace} contains the folder {state / 'sessions'}, so the agent's tools could change "
            "its own history. Choose a workspace beside the config file, or move the config file elsewhere."
        )


def _claimed_id(config_path: Path, workspace: Path) -> str:
    held = read_workspace_id(workspace)
    if held is not None and not _is_copy(config_path, workspace, held):
        return held
    fresh = _id_by_path(config_path, workspace) or os.urandom(16).hex()
    # A workspace that cannot be written works too: its id is found again by its path.
    with contextlib.suppress(OSError):
        return _agreed_id(workspace, fresh, unwanted=held)
    return fresh


def _agreed_id(workspace: Path, fresh: str, *, unwanted: str | None) -> str:
    """Put an id in place unless another process was faster; return the one that stands."""
    marker = workspace_id_file(workspace)
    marker.parent.mkdir(exist_ok=True)
    for _ in range(_ATTEMPTS):
        # One look decides. An id appears whole, by a link: what stands there without being one is spoiled.
        standing = _read(marker)
        if standing is not None and standing != unwanted and _ID.fullmatch(standing):
            return standing
        if standing is not None:
            fresh = _set_aside(marker, unwanted) or fresh
        if _is_first(marker, fresh):
            return fresh
    raise OSError(f"{marker} can neither be read nor replaced")


def _is_copy(config_path: Path, workspace: Path, held: str) -> bool:
    """Whether the workspace that this id was given to still exists somewhere else."""
    owner = _read(sessions_folder(config_path, held) / _OWNER)
    if not owner or owner == str(workspace) or "\0" in owner:  # which a power loss may leave
        return False
    original = Path(owner)
    if read_workspace_id(original) != held:
        return False
    return not original.samefile(workspace)


def _id_by_path(config_path: Path, workspace: Path) -> str | None:
    for owner in sorted((state_folder(config_path) / "sessions").glob(f"*/{_OWNER}")):
        if _ID.fullmatch(owner.parent.name) and _read(owner) == str(workspace):
            return owner.parent.name
    return None


def _set_aside(marker: Path, unwanted: str | None) -> str | None:
    """Remove a spoiled or copied id; return the good one that another process has put in its place meanwhile."""
    aside = _beside(marker)
    try:
        marker.rename(aside)
    except FileNotFoundError:
        return None
    found = _read(aside) or ""
    aside.unlink()
    return found if _ID.fullmatch(found) and found != unwanted else None


def _is_first(marker: Path, text: str) -> bool:
    """Write a marker that does not exist yet; False when another process was faster."""
    temporary = _beside(marker)
    _write(temporary, text)
    try:
        os.link(temporary, marker)  # unlike a rename, a link never replaces
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        temporary.replace(marker)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")


def _write(path: Path, text: str) -> None:
    temporary = _beside(path)
    try:
        with temporary.open("x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> str | None:
    """The text of a marker, or None when there is none that can be read."""
    try:
        content = read_regular(path, _LONGEST_MARKER)
    except OSError:
        return None
    return content.decode("utf-8", errors="surrogateescape").strip()
