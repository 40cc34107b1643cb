"""A configuration goes to disk whole, private and in camelCase, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanobot._regular_file import is_new_file
from nanobot.errors import ConfigError

from ._load import normalized

__all__ = ["changed", "write_config"]

# A write takes milliseconds. What is this old was left behind by a process that was killed.
_ABANDONED_AFTER_S = 600.0


def write_config(tree: Mapping[str, Any], path: Path) -> None:
    """Write the object of a configuration file, readable by its owner only (0600).

    Start from `Config.tree` or `read_tree`, so that unknown keys and `${VAR}` stay. The file is replaced in one step: a
    reader, or a crash at any moment, finds the old content or the new. A link is followed and its target replaced. Of
    two writers at once the later one wins.

    Raises:
      InvalidConfig: A key stands twice, in camelCase and snake_case.
      ConfigError: The object is not JSON, or the file cannot be written; the text says why.
    """
    try:
        text = json.dumps(
            normalized(tree, path=path), indent=2, ensure_ascii=False, allow_nan=False
        )
        content = text.encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        content = b""
    if not content:  # raised here, so that the value at fault does not travel with the error
        raise ConfigError(f"Cannot write {path}: the settings hold something that is not JSON")
    try:
        _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}") from error


def changed(tree: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a copy of the tree with one value set; sections on the way are made. The tree itself stays as it is.

    Args:
      tree: The object of a configuration file, keys in camelCase.
      keys: The way to the value, such as `("agents", "defaults", "model")`; a list, because names may hold dots.
      value: Anything JSON can hold.

    Raises:
      ConfigError: Something other than an object stands on the way.
    """
    head, *rest = keys
    if not rest:
        return {**tree, head: value}
    section = tree.get(head, {})
    if not isinstance(section, Mapping):
        raise ConfigError(f"{head} is not an object; it cannot hold {rest[0]}")
    return {**tree, head: changed(section, rest, value)}


def _replace(target: Path, content: bytes) -> None:
    is_new_file(target)  # or a file; the superuser could replace a device as well
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.parent / f"{_prefix(target)}{os.urandom(8).hex()}.tmp"
    # Created private and exclusively: at no moment can someone else read it, or have put a link in its place.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)
    _remove_abandoned(target)


def _prefix(target: Path) -> str:
    return f".{target.name}."


def _sync_folder(folder: Path) -> None:
    """Make the new name survive power loss; Windows has no way to ask for it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(target: Path) -> None:
    """Delete what killed writers left; they hold keys."""
    oldest = time.time() - _ABANDONED_AFTER_S
    for leftover in target.parent.glob(f"{_prefix(target)}*.tmp"):
        with contextlib.suppress(OSError):  # another writer was faster
            if leftover.stat().st_mtime < oldest:
                leftover.unlink()
