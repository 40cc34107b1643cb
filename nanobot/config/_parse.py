"""Bytes of a configuration file become one JSON object, or an error that says where they stop being one."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ._issues import InvalidConfig, Issue, KeyPath, dotted

__all__ = ["MAX_CONFIG_BYTES", "parse_object"]

# A file with every key and hundreds of MCP servers stays below 200 kB; what is larger is not a configuration.
MAX_CONFIG_BYTES = 4 * 1024 * 1024
# Real files nest about eight levels; the bound keeps every walk over the tree far from Python's recursion limit.
_MAX_DEPTH = 64
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class _Refused(Exception):
    """Raised inside the JSON decoder by our own rules; never leaves this module."""


def parse_object(content: bytes, *, path: Path) -> dict[str, Any]:
    """Read the one JSON object that a configuration file holds.

    Raises:
      InvalidConfig: Not UTF-8, not JSON, a key twice in one object, nested deeper than 64 levels, or text and numbers
        that are of no use anywhere (NaN, infinity, half a surrogate pair, NUL).
    """
    # The errors of codecs and json carry the whole file; ours are raised after theirs are gone, so that no traceback
    # or error report gets to see a key.
    text, issue = _decoded(content)
    if issue is None:
        tree, issue = _loaded(text)
        if issue is None and not isinstance(tree, dict):
            issue = Issue("", "expected a JSON object, written {…}")
        if issue is None:
            issues = list(_unwritable(tree, ()))
            if not issues:
                return tree  # type: ignore[no-any-return]  # the object check is above
            raise InvalidConfig(path, issues)
    if issue.message == _DUPLICATES:
        raise InvalidConfig(path, _duplicates(text))
    raise InvalidConfig(path, [issue])


_DUPLICATES = "a key stands twice in one object"


def _decoded(content: bytes) -> tuple[str, Issue | None]:
    if content.startswith(_UTF16):
        return "", Issue("", "the file is UTF-16; save it as UTF-8 without a byte order mark")
    if content.startswith(codecs.BOM_UTF8):
        return "", Issue("", "the file starts with a byte order mark; save it as UTF-8 without one")
    if not content.strip():
        return "", Issue("", "the file is empty; write {} for the defaults")
    try:
        return content.decode("utf-8"), None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    return "", Issue("", f"the file is not UTF-8, see line {line}")


def _loaded(text: str) -> tuple[Any, Issue | None]:
    try:
        return json.loads(
            text, object_pairs_hook=_object_of_unique_keys, parse_constant=_refuse
        ), None
    except json.JSONDecodeError as error:
        message = f"broken JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        message = _too_deep()
    except _Refused as error:
        message = str(error)
    except ValueError:
        # Python refuses to parse whole numbers beyond some thousand digits.
        message = "the file holds a whole number with thousands of digits"
    return None, Issue("", message)


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused(_DUPLICATES)
    return members


def _refuse(constant: str) -> NoReturn:
    raise _Refused(f"{constant} is not JSON; use a number or null")


def _too_deep() -> str:
    return f"nested deeper than {_MAX_DEPTH} levels"


class _Pairs(list[tuple[str, Any]]):
    """An object with its repeated keys, kept to find out where they are."""


def _duplicates(text: str) -> Iterator[Issue]:
    pending: list[tuple[KeyPath, Any]] = [((), json.loads(text, object_pairs_hook=_Pairs))]
    while pending:
        path, value = pending.pop()
        if isinstance(value, _Pairs):
            seen: set[str] = set()
            for key, member in value:
                if key in seen:
                    yield Issue(dotted((*path, key)), "stands twice; keep one")
                seen.add(key)
                pending.append(((*path, key), member))
        elif isinstance(value, list):
            pending += [((*path, index), item) for index, item in enumerate(value)]


def _unwritable(value: Any, path: KeyPath) -> Iterator[Issue]:
    if isinstance(value, str):
        if problem := _text_problem(value):
            yield Issue(dotted(path), problem)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Issue(dotted(path), "the number is too large")
    elif isinstance(value, dict | list):
        if len(path) >= _MAX_DEPTH:
            yield Issue(dotted(path[:3]), _too_deep())
            return
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            if isinstance(key, str) and (problem := _text_problem(key)):
                yield Issue(dotted((*path, key)), problem)
            yield from _unwritable(member, (*path, key))


def _text_problem(text: str) -> str:
    """Why this text is no use in a file name, a header or a file of ours; "" if it is fine."""
    if text.isascii():
        return "holds a NUL character" if "\0" in text else ""
    if "\0" in text:
        return "holds a NUL character"
    return "holds half of a surrogate pair" if any("\ud800" <= c <= "\udfff" for c in text) else ""
