"""What a function's docstring says: about the function, and about each parameter."""

from __future__ import annotations

import inspect
import re

from msgspec import Struct

__all__ = ["Docstring", "read_docstring"]

_ARGUMENTS = frozenset(
    {"args", "arguments", "parameters", "params", "keyword args", "keyword arguments"}
)
_OTHERS = frozenset(
    {
        "attributes",
        "example",
        "examples",
        "note",
        "notes",
        "raises",
        "references",
        "return",
        "returns",
        "see also",
    }
    | {"source", "todo", "warning", "warnings", "warns", "yield", "yields"}
)
_HEADING = re.compile(r"([A-Za-z][A-Za-z ]*):\s*")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")


class Docstring(Struct, frozen=True):
    """A docstring taken apart: the text before its first section, and one line of text per documented parameter."""

    description: str
    parameters: dict[str, str]


def read_docstring(text: str | None) -> Docstring:
    """Take a docstring in Google style apart. Its other sections are for programmers, and left out."""
    description: list[str] = []
    arguments: list[str] = []
    section: list[str] | None = description
    for line in inspect.cleandoc(text or "").split("\n"):
        heading = _HEADING.fullmatch(line)
        word = heading[1].strip().lower() if heading else ""
        if word in _ARGUMENTS:
            section = arguments
        elif word in _OTHERS:
            section = None
        elif section is arguments and line and not line[0].isspace():
            section = None  # a paragraph at the margin ends the list of arguments
        elif section is not None:
            section.append(line)
    return Docstring("\n".join(description).strip(), _entries(arguments))


def _entries(lines: list[str]) -> dict[str, str]:
    """Read `name: text` and `name (type): text`, with what is indented deeper as more text."""
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        entry = _ENTRY.fullmatch(line[margin:]) if not line[margin : margin + 1].isspace() else None
        if entry:
            name = entry[1]
            found[name] = [entry[2]]
        elif name:
            found[name].append(line)
    return {name: " ".join(" ".join(pieces).split()) for name, pieces in found.items()}
