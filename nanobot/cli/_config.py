"""`nanobot config`: read and change single settings."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from nanobot.config import (
    Config,
    InvalidConfig,
    Settings,
    changed,
    config_from_tree,
    default_config_path,
    expanded,
    read_tree,
    write_config,
)

from ._failure import Failure
from ._json_schema import config_schema, definition
from ._masking import masked

__all__ = ["config", "keys_of", "merged"]

_PART: Final = re.compile(r'"([^"]*)"|([^."]+)')

_file_option = click.option("-c", "--config", "file", metavar="FILE", help="Configuration to use.")


@click.group()
def config() -> None:
    """Read and change settings."""


@config.command()
@_file_option
def path(file: str | None) -> None:
    """Print where the configuration is, or would be."""
    click.echo(str(_path(file)))


@config.command()
def schema() -> None:
    """Print the JSON Schema of config.json, for editors."""
    click.echo(json.dumps(config_schema(), indent=2, ensure_ascii=False))


@config.command()
@click.argument("key", required=False)
@_file_option
@click.option("--reveal", is_flag=True, help="Show keys and tokens, too.")
def get(key: str | None, file: str | None, reveal: bool) -> None:
    """Print one setting, or all of them; what the file does not say is the default.

    KEY is dotted, as in agents.defaults.model; a name that holds dots stands in double quotes. Text is printed as it is,
    everything else as JSON. `${VAR}` is printed as it stands in the file.
    """
    root = config_schema()
    value: Any = merged(msgspec.to_builtins(Settings()), _tree(_path(file)))
    if not reveal:
        value = masked(value, root, root)
    for part in keys_of(key or ""):
        if not isinstance(value, Mapping) or part not in value:
            raise Failure(f"There is no setting {key}.", _near(key or "", root))
        value = value[part]
    if isinstance(value, str):
        click.echo(value)
    else:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))


@config.command("set")
@click.argument("key")
@click.argument("value")
@_file_option
@click.option("--force", is_flag=True, help="Keep a setting that nothing reads.")
def set_value(key: str, value: str, file: str | None, force: bool) -> None:
    """Change one setting. VALUE is JSON, or else text; null takes a key back to its default where it may be null.

    The file is replaced in one step, with mode 0600, and only if the new one can be used.
    """
    where = _path(file)
    tree = _tree(where)
    keys = keys_of(key)
    if not keys:
        raise click.UsageError("The key is empty.")
    new = changed(tree, keys, _parsed(value))
    before, after = _judged(tree, where), _judged(new, where)
    if issues := [issue for issue in after[0] if issue not in before[0]]:
        raise Failure(f"{where} was not changed. {issues[0]}")
    if not force and (unread := [one for one in after[1] if one not in before[1]]):
        raise Failure(
            f"Nothing reads {unread[0]}; {where} was not changed.",
            f"{_near(key, config_schema())} With --force it is kept all the same.",
        )
    write_config(new, where)


def keys_of(key: str) -> tuple[str, ...]:
    """Split a dotted key; parts in double quotes may hold dots."""
    return tuple(quoted or plain for quoted, plain in _PART.findall(key))


def merged(defaults: Any, settings: Any) -> Any:
    """What holds: the settings, over the defaults."""
    if isinstance(defaults, Mapping) and isinstance(settings, Mapping):
        both = {
            key: merged(value, settings[key]) if key in settings else value
            for key, value in defaults.items()
        }
        return both | {key: value for key, value in settings.items() if key not in defaults}
    return settings


def _path(file: str | None) -> Path:
    return default_config_path() if file is None else expanded(file)


def _tree(where: Path) -> dict[str, Any]:
    try:
        return read_tree(where)
    except FileNotFoundError:
        return {}


def _judged(tree: Mapping[str, Any], where: Path) -> tuple[list[str], tuple[str, ...]]:
    """What is wrong with the object of a configuration, and which of its keys nothing reads."""
    try:
        read: Config = config_from_tree(tree, path=where, env=os.environ)
    except InvalidConfig as error:
        return [str(issue) for issue in error.issues], ()
    return [], read.unknown_keys


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _near(key: str, root: dict[str, Any]) -> str:
    """Which key may have been meant."""
    close = difflib.get_close_matches(key, _known(root, root), n=1)
    return f"Did you mean {close[0]}?" if close else "`nanobot config get` shows all."


def _known(schema: dict[str, Any], root: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, member in definition(schema, root).get("properties", {}).items():
        found += [f"{prefix}{name}", *_known(member, root, f"{prefix}{name}.")]
    return found
