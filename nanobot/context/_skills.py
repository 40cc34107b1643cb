"""Skills: written instructions that the model is told of by name, and reads when a task calls for them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

__all__ = ["Skill", "skill_from_text", "skills_text"]

# Limits that skill files are written to.
# Source: https://docs.claude.com/en/docs/agents-and-tools/agent-skills/overview (fields of SKILL.md).
_NAME_CHARS: Final = 64
_DESCRIPTION_CHARS: Final = 1024
_FIRST_LINE_CHARS: Final = 120

_FENCE: Final = "---"
_KEY: Final = re.compile(r"([A-Za-z_][\w-]*):(?:[ \t]+(.*))?$")
_BLOCK: Final = re.compile(r"[|>][-+0-9]*$")


class Skill(Struct, frozen=True, gc=False):
    """One skill as the model is told of it; `path` is relative to the workspace, with forward slashes."""

    name: str
    description: str
    path: str


def skill_from_text(text: str, *, folder: str) -> Skill:
    """Read a SKILL.md: `name` and `description` from its frontmatter, or what can be had without one.

    Without a name the folder's is taken; without a description, the first line of the text.
    """
    fields, body = _frontmatter(text)
    name = fields.get("name") or folder
    first_line = next((line for line in map(_one_line, body.splitlines()) if line.strip("# ")), "")
    description = fields.get("description") or _cut(first_line.lstrip("# "), _FIRST_LINE_CHARS)
    return Skill(
        _cut(_one_line(name), _NAME_CHARS),
        _cut(description, _DESCRIPTION_CHARS),
        f"skills/{_one_line(folder)}/SKILL.md",
    )


def skills_text(skills: Sequence[Skill], *, left_out: int = 0) -> str:
    """List the skills for the model, one on a line; "" if there are none."""
    if not skills:
        return ""
    lines = [
        "Instructions for particular kinds of work. When a task matches one, read its file before you start."
    ]
    for skill in skills:
        about = f": {skill.description}" if skill.description else ""
        lines.append(f"- {skill.name} ({skill.path}){about}")
    if left_out:
        lines.append(f"- … and {left_out} more under skills/")
    return "\n".join(lines)


def _frontmatter(text: str) -> tuple[dict[str, str], str]:
    """Split off the block between two `---` lines and read its top-level scalars; a text without one is all body.

    Understood are plain, quoted and block scalars, also over several lines, each folded to one line. Anything nested
    belongs to its key and is not looked into.

    Source: YAML 1.2.2, chapters 7 (flow scalars) and 8 (block scalars); the part of it that frontmatter uses.
    """
    lines = text.splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        return {}, text
    end = next(
        (at for at, line in enumerate(lines[1:], 1) if line.rstrip() in (_FENCE, "...")), None
    )
    if end is None:
        return {}, text
    collected: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines[1:end]:
        if match := _KEY.match(line.rstrip()):
            current = collected.setdefault(match[1], [])
            current[:] = [match[2] or ""]  # of two equal keys the later one counts
        elif line[:1] in (" ", "\t") or not line.strip():
            current.append(line)
    fields = {key: _scalar(value) for key, value in collected.items()}
    return fields, "\n".join(lines[end + 1 :])


def _scalar(lines: Sequence[str]) -> str:
    head, rest = lines[0].strip(), lines[1:]
    if _BLOCK.match(head):
        return _one_line(" ".join(rest))
    value = _one_line(" ".join([head, *rest]))
    match value[:1]:
        case '"':
            try:
                inner, _ = json.JSONDecoder(strict=False).raw_decode(value)
            except ValueError:  # an escape that only YAML knows, or no end: better shown than lost
                return value.strip('"')
            return _one_line(str(inner))
        case "'":
            quoted = re.match(r"'((?:[^']|'')*)'", value)
            return quoted[1].replace("''", "'") if quoted else value.strip("'")
        case _:
            return re.split(r"(?:^|\s)#", value, maxsplit=1)[0].rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"
