"""Read JSON that a model wrote almost right, where it can mean only one thing.

json-repair always answers, also where it has to guess. So it is shown the outline alone, with a number in the place of
each name and value: these it cannot touch. And its answer counts only if, written down, it differs from what the model
wrote in nothing but commas and closing brackets.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["repair_object"]

_MOST_TOKENS: Final = 2_000
"""Brackets, marks and values of one text: json-repair takes 28 µs for each, on the engine's thread. Their length costs
nothing."""

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


_OUTLINE_TOKEN: Final = re.compile(r'[{}\[\],:]|"\d+"|[^\s{}\[\],:"]+|""')
_MARKS: Final = {"open": "{[", "close": "}]", "comma": ",", "colon": ":"}


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
    # deferred: it takes 0.1 s to import, and most models write JSON
    import json_repair

    try:
        outline, values = _read(_without_fence(text.strip()))
        answer = json_repair.loads(" ".join(outline))
        if not _differ_in_marks_only(outline, _OUTLINE_TOKEN.findall(json.dumps(answer))):
            return None
        value = _filled(answer, values)
    except (ValueError, RecursionError):  # a token that is none, a number of thousands of digits
        return None
    return value if isinstance(value, dict) and value and _is_sound(value) else None


def _without_fence(text: str) -> str:
    if not (text.startswith("```") and text.endswith("```")):
        return text
    language, newline, inside = text[3:-3].partition("\n")
    return (
        inside.strip() if newline and (not language.strip() or language.strip().isalnum()) else text
    )


def _read(text: str) -> tuple[list[str], list[Any]]:
    """The outline of a text, mark by mark, and the values that the numbers in it stand for.

    Raises:
      ValueError: It has more in it than marks and values, or too much of them.
    """
    outline: list[str] = []
    values: list[Any] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None or len(outline) >= _MOST_TOKENS:
            raise ValueError(text[position : position + 20])
        kind = str(token.lastgroup)
        if kind in _MARKS:
            outline.append(token[kind])
        else:
            outline.append(f'"{len(values)}"')
            values.append(_value_of(kind, token[kind]))
        position = token.end()
    return outline, values


def _value_of(kind: str, token: str) -> Any:
    match kind:
        case "number":
            return float(token) if set(token) & set(".eE") else int(token)
        case "literal":
            return _LITERALS[token.lower()]
    return _unescaped(token)


def _differ_in_marks_only(written: list[str], answered: list[str]) -> bool:
    """Whether the answer has all that was written, in its order, but for

    - a comma before a closing bracket, which it may leave out,
    - a comma before a name, and closing brackets at the end, which it may add,
    - closing brackets at the end, which it may leave out.

    A text that ends where a value was still to come has been cut, whatever the answer.
    """
    if not written or written[-1] in tuple("{[,:"):
        return False
    i = j = 0
    while i < len(written) and j < len(answered):
        if written[i] == answered[j]:
            i, j = i + 1, j + 1
        elif written[i] == "," and _closes(written[i + 1]) and written[i - 1] not in tuple("{["):
            i += 1
        elif answered[j] == "," and answered[j + 2 : j + 3] == [":"]:
            j += 1
        else:
            return False
    return all(map(_closes, written[i:] + answered[j:]))


def _closes(token: str) -> bool:
    return token in ("}", "]")


def _filled(outline: Any, values: list[Any]) -> Any:
    """An outline with its numbers replaced by what they stand for.

    Raises:
      ValueError: A name is there twice, or is no text.
    """
    if isinstance(outline, list):
        return [_filled(each, values) for each in outline]
    if not isinstance(outline, dict):
        return values[int(outline)]
    filled: dict[str, Any] = {}
    for number, inside in outline.items():
        name = values[int(number)]
        if not isinstance(name, str) or name in filled:
            raise ValueError(name)
        filled[name] = _filled(inside, values)
    return filled


def _unescaped(string: str) -> str:
    """What a string means.

    Raises:
      ValueError: Some of its backslashes escape and others cannot: then none is to be trusted.
    """
    understood = [len(escape) == 5 or escape in _MEANT for escape in _ESCAPE.findall(string)]
    if all(understood):
        plain = _ESCAPE.sub(lambda m: _MEANT.get(m[1]) or chr(int(m[1][1:], 16)), string)
        # Two halves of a surrogate pair become one character.
        return plain.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if any(understood):
        raise ValueError(string)
    return string


def _is_sound(value: Any) -> bool:
    """Whether JSON can hold it after all: no infinite number, no half of a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True
