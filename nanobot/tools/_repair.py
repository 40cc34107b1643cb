"""Read JSON that a model wrote almost right, where it can mean only one thing."""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["repair_object"]

_MOST_TOKENS: Final = 20_000
"""Brackets, marks and values read from one text: about 1 µs each, on the engine's thread. Their length costs nothing."""

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<open>[{\[])
    | (?P<close>[}\]])
    | (?P<comma>,)
    | (?P<colon>:)
    | "(?P<double>[^"\\]*(?:\\.[^"\\]*)*)"
    | '(?P<single>[^'\\]*(?:\\.[^'\\]*)*)'
    | (?P<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?=[\s,\]}])
    | (?P<literal>true|True|false|False|null|None)(?=[\s,\]}]|\Z)
    | (?P<name>[A-Za-z_]\w*)(?=\s*:)
    )""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_MEANT: Final = {c: c for c in "\"'\\/"} | {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LITERALS: Final = {"true": True, "false": False, "null": None, "none": None}


def repair_object(text: str) -> dict[str, Any] | None:
    """Read a JSON object that is not quite valid, or return None if what is wrong leaves a choice.

    Only what stands between the values may be wrong. Every string, number and literal must be complete, and the brackets
    must nest. That leaves a comma too many at the end of a list or object, one too few before a name, the kind of
    quotes, names without quotes, Python's spelling of literals, line breaks inside strings, backslashes that escape
    nothing, a Markdown fence around it all, and brackets that are missing, or too many, at the very end.

    Ruled out is a text that was cut inside a value or where one was still to come: closing that would write half a file,
    or make 20 of 200. So are quotes inside quotes, comments, prose, and words without quotes, where one would have to
    guess: a guess that edits a file is worse than an error that the model can answer. And so is an empty result.
    """
    value = _Reader().read(_without_fence(text.strip()))
    return value if isinstance(value, dict) and value and _is_sound(value) else None


def _without_fence(text: str) -> str:
    if not (text.startswith("```") and text.endswith("```")):
        return text
    language, newline, inside = text[3:-3].partition("\n")
    return (
        inside.strip() if newline and (not language.strip() or language.strip().isalnum()) else text
    )


class _Reader:
    """Builds a value from tokens, and stops at the first that can be read in two ways or none."""

    def __init__(self) -> None:
        self._root: Any = None
        self._open: list[dict[str, Any] | list[Any]] = []
        self._name = ""
        self._next = "value"  # or "name", "colon", "after" (a value), "end"

    def read(self, text: str) -> Any:
        position = 0
        try:
            for _ in range(_MOST_TOKENS):
                if position == len(text):
                    return self._root if self._next in ("after", "end") else None
                token = _TOKEN.match(text, position)
                if token is None or not self._take(
                    str(token.lastgroup), token[token.lastgroup or 0]
                ):
                    return None
                position = token.end()
        except ValueError:  # a number of thousands of digits
            pass
        return None

    def _take(self, kind: str, token: str) -> bool:
        in_object = bool(self._open) and isinstance(self._open[-1], dict)
        match kind, self._next:
            case "close", "end":  # one too many
                return True
            case "open", "value":
                opened: dict[str, Any] | list[Any] = {} if token == "{" else []
                self._place(opened)
                self._open.append(opened)
                self._next = "name" if token == "{" else "value"
            case ("close", "name" | "after") | ("close", "value") if self._closes(token):
                self._open.pop()
                self._next = "after" if self._open else "end"
            case "comma", "after":
                self._next = "name" if in_object else "value"
            case "colon", "colon":
                self._next = "value"
            case "double" | "single" | "name", "name" | "after" if in_object:
                name = _unescaped(token)
                if name is None or name in self._open[-1]:
                    return False
                self._name, self._next = name, "colon"
            case "double" | "single", "value":
                text = _unescaped(token)
                if text is None:
                    return False
                self._place(text)
            case "number", "value":
                self._place(float(token) if set(token) & set(".eE") else int(token))
            case "literal", "value":
                self._place(_LITERALS[token.lower()])
            case _:
                return False
        return True

    def _closes(self, bracket: str) -> bool:
        """Whether a closing bracket fits what is open, and nothing is still to come there."""
        if isinstance(self._open[-1] if self._open else None, dict):
            return bracket == "}" and self._next != "value"
        return bracket == "]" and bool(self._open)

    def _place(self, value: Any) -> None:
        self._next = "after"
        if not self._open:
            self._root = value
        elif isinstance(around := self._open[-1], dict):
            around[self._name] = value
        else:
            around.append(value)


def _unescaped(string: str) -> str | None:
    """What a string means; None if some of its backslashes escape and others cannot: then none is to be trusted."""
    understood = [len(escape) == 5 or escape in _MEANT for escape in _ESCAPE.findall(string)]
    if all(understood):
        plain = _ESCAPE.sub(lambda m: _MEANT.get(m[1]) or chr(int(m[1][1:], 16)), string)
        # Two halves of a surrogate pair become one character.
        return plain.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return None if any(understood) else string


def _is_sound(value: Any) -> bool:
    """Whether JSON can hold it after all: no infinite number, no half of a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True
