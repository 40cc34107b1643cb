"""Where things are: pure functions from settings and environment to paths; nothing here touches a disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nanobot.errors import ConfigError

__all__ = [
    "default_config_path",
    "expanded",
    "sessions_folder",
    "state_folder",
    "workspace_id_file",
    "workspace_path",
]


def default_config_path(env: Mapping[str, str] | None = None) -> Path:
    """`~/.nanobot/config.json`, with the home folder of this moment.

    Raises:
      ConfigError: There is no home folder.
    """
    return _home(env) / ".nanobot" / "config.json"


def state_folder(config_path: Path) -> Path:
    """The folder for everything an instance keeps outside its workspace: the one its configuration is in."""
    return config_path.parent


def sessions_folder(config_path: Path, workspace_id: str) -> Path:
    """Where the sessions of one workspace are kept."""
    return state_folder(config_path) / "sessions" / workspace_id


def workspace_id_file(workspace: Path) -> Path:
    """The file in a workspace that holds its 32-digit hexadecimal id."""
    return workspace / ".nanobot" / "workspace-id"


def workspace_path(
    configured: str | Path,
    env: Mapping[str, str] | None = None,
    *,
    name: str = "agents.defaults.workspace",
) -> Path:
    """The absolute path of a workspace; a relative one counts from the current folder. `name` is what an error calls it.

    Raises:
      ConfigError: The text cannot be a path.
    """
    if not str(configured).strip() or "\0" in str(configured):
        raise ConfigError(f"{name}: expected the path of a folder")
    return expanded(configured, env)


def expanded(path: str | Path, env: Mapping[str, str] | None = None) -> Path:
    """Make a path absolute and replace a leading `~`; links are kept, so that state stays where the user points."""
    text = str(path)
    # `Path.resolve()` would follow links, and `Path.expanduser()` fails for users who do not exist.
    if text == "~" or text.startswith(("~/", f"~{os.sep}")):
        return Path(os.path.abspath(_home(env) / text[2:]))  # noqa: PTH100  # see above
    return Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111  # see above


def _home(env: Mapping[str, str] | None) -> Path:
    # os.environ is read at call time: tests, daemons and `sudo` change HOME.
    configured = (os.environ if env is None else env).get("HOME")
    if configured:
        return Path(configured)
    try:
        return Path.home()
    except RuntimeError as error:
        raise ConfigError("There is no home folder: set HOME, or name a config file.") from error
