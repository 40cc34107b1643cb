"""A workspace and its sessions find each other by an id, also after the workspace was moved."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from nanobot.errors import ConfigError

from ._paths import sessions_folder, state_folder, workspace_id_file

__all__ = ["claim_sessions_folder", "read_workspace_id"]

_ID = re.compile(r"[0-9a-f]{32}")
_OWNER = ".workspace"
# An id or a path; what is longer was not written by us.
_LONGEST_MARKER = 8192


def read_workspace_id(workspace: Path) -> str | None:
    """The id in a workspace, or None when it has none yet. Nothing is created."""
    text = _read(workspace_id_file(workspace))
    return text if _ID.fullmatch(text) else None


def claim_sessions_folder(config_path: Path, workspace: Path) -> Path:
    """Create the workspace if needed, give it an id, and return the private folder for its sessions.

    The id lives in the workspace, the workspace's path beside the sessions. A moved workspace keeps its sessions; a
    copy, whose original is still there, starts its own; one that lost its id gets it back by its path. Safe against
    other processes that do the same.

    Raises:
      ConfigError: A folder cannot be made, or the sessions would lie inside the workspace, within reach of the tools.
    """
    workspace = Path(os.path.realpath(workspace))
    state = Path(os.path.realpath(state_folder(config_path)))
    if (state / "sessions").is_relative_to(workspace):
        raise ConfigError(
            f"The workspace {workspace} contains the folder {state / 'sessions'}, so the agent's tools could change "
            "its own history. Choose a workspace beside the config file, or move the config file elsewhere."
        )
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


def _claimed_id(config_path: Path, workspace: Path) -> str:
    held = read_workspace_id(workspace)
    if held is not None and not _is_copy(config_path, workspace, held):
        return held
    fresh = (held is None and _id_by_path(config_path, workspace)) or os.urandom(16).hex()
    marker = workspace_id_file(workspace)
    # A workspace that cannot be written works too: its id is found again by its path.
    with contextlib.suppress(OSError):
        marker.parent.mkdir(exist_ok=True)
        return _first_to_write(marker, _set_aside(marker, unwanted=held) or fresh)
    return fresh


def _set_aside(marker: Path, *, unwanted: str | None) -> str | None:
    """Remove a spoiled or copied id; return the one that another process has put in its place meanwhile."""
    aside = marker.with_name(f".{marker.name}.{os.urandom(16).hex()}.tmp")
    try:
        marker.rename(aside)
    except FileNotFoundError:
        return None
    found = _read(aside)
    aside.unlink()
    return found if _ID.fullmatch(found) and found != unwanted else None


def _is_copy(config_path: Path, workspace: Path, held: str) -> bool:
    """Whether the workspace that this id was given to still exists somewhere else."""
    owner = _read(sessions_folder(config_path, held) / _OWNER)
    if not owner or owner == str(workspace):
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


def _first_to_write(marker: Path, fresh: str) -> str:
    """Write the id unless another process was faster; return the one that stands."""
    temporary = marker.with_name(f".{marker.name}.{os.urandom(16).hex()}.tmp")
    _write(temporary, fresh)
    try:
        os.link(temporary, marker)  # unlike a rename, a link never replaces
    except FileExistsError:
        return read_workspace_id(marker.parent.parent) or fresh
    except OSError:  # a file system without links
        temporary.replace(marker)
    finally:
        temporary.unlink(missing_ok=True)
    return fresh


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.urandom(16).hex()}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> str:
    """The text of a marker, "" when it is missing or unreadable."""
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_MARKER)
    except OSError:
        return ""
    return content.decode("utf-8", errors="surrogateescape").strip()
