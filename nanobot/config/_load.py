"""A configuration file becomes a `Config`."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nanobot._frames import forgetful

from ._consistency import contradictions
from ._interpolate import Interpolation
from ._issues import InvalidConfig, Issue
from ._keys import Keys
from ._legacy import migrated
from ._mistakes import mistakes
from ._parse import MAX_CONFIG_BYTES, parse_object
from ._paths import default_config_path, expanded
from ._schema import Config, Settings
from ._shape import shape_of

__all__ = ["config_from_tree", "load_config", "normalized", "read_tree"]


@forgetful
def load_config(path: str | Path | None, *, env: Mapping[str, str] | None = None) -> Config:
    """Read a configuration file, with old keys moved, both spellings accepted and `${VAR}` replaced.

    Args:
      path: The file. None is the default one, which may be missing: then the built-in defaults apply, `source` is None.
      env: What `${VAR}` and `~` stand for; None is the process's environment. Nothing is remembered between calls.

    Raises:
      FileNotFoundError: The file was named and is not there.
      InvalidConfig: It cannot be read or used; the text says where and what was expected, and quotes no value.
    """
    environment = os.environ if env is None else env
    where = default_config_path(environment) if path is None else expanded(path, environment)
    try:
        tree = _read_object(where)
    except FileNotFoundError:
        if path is not None:
            raise FileNotFoundError(f"Config not found: {where}") from None
        return Config(path=where)
    return config_from_tree(tree, path=where, env=environment)


@forgetful
def read_tree(path: Path) -> dict[str, Any]:
    """Read the object in a configuration file: keys in camelCase, values not checked, `${VAR}` not replaced.

    Raises:
      FileNotFoundError: There is no such file.
      InvalidConfig: It is no file, unreadable, larger than 4 MiB, or holds no JSON object.
    """
    return normalized(_read_object(path), path=path)


@forgetful
def normalized(tree: Mapping[str, Any], *, path: Path | None = None) -> dict[str, Any]:
    """Return the tree with old keys moved and known keys in camelCase; all else is kept as it is.

    Raises:
      InvalidConfig: A key stands twice, in camelCase and snake_case.
    """
    keys = Keys()
    kept = keys.renamed(migrated(dict(tree)), shape_of(Settings))
    _refuse(path, keys.issues)
    return kept  # type: ignore[no-any-return]  # a record of an object is an object


def _read_object(path: Path) -> dict[str, Any]:
    problem = ""
    content = b""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            problem = "is a folder; name the file in it, such as config.json"
        elif not stat.S_ISREG(mode):  # opening a pipe would wait for its other end
            problem = "is not a regular file"
        else:
            with path.open("rb") as file:
                content = file.read(MAX_CONFIG_BYTES + 1)
            if len(content) > MAX_CONFIG_BYTES:
                problem = f"is larger than {MAX_CONFIG_BYTES // 2**20} MiB, which no config file is"
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        problem = f"cannot be read: {getattr(error, 'strerror', None) or 'the path is malformed'}"
    if problem:
        raise InvalidConfig(path, [Issue("", problem)])
    return parse_object(content, path=path)


@forgetful
def config_from_tree(
    tree: Mapping[str, Any], *, path: Path | None, env: Mapping[str, str]
) -> Config:
    """Check the object of a configuration file and turn it into settings.

    Raises:
      InvalidConfig: Something cannot be used. Spelling is checked first, then variables, types, and how things agree.
    """
    shape = shape_of(Settings)
    keys = Keys()
    kept = keys.renamed(migrated(dict(tree)), shape)
    _refuse(path, keys.issues)
    interpolation = Interpolation(env)
    resolved = interpolation.resolved(kept)
    _refuse(path, interpolation.missing)
    try:
        # Not strict: `"port": "${PORT}"` is text until here.
        settings = msgspec.convert(resolved, Settings, strict=False)
    except msgspec.ValidationError:
        settings = None  # msgspec's message may quote a value, so it is not looked at
    if settings is None:
        _refuse(path, [*mistakes(resolved, shape)])
        raise InvalidConfig(path, [Issue("", "does not have the shape of a configuration")])
    _refuse(path, [*contradictions(settings)])
    sections = {name: getattr(settings, name) for name in Settings.__struct_fields__}
    return Config(**sections, path=path, source=path, unknown_keys=tuple(keys.unknown), tree=kept)


def _refuse(path: Path | None, issues: list[Issue]) -> None:
    if issues:
        raise InvalidConfig(path, issues)
