"""`edit_file`: other text in one place of a file."""

from __future__ import annotations

from typing import Annotated, Final

import trio
from msgspec import Meta

from nanobot.errors import ToolError

from .._replacement import Before, ContentChanged
from .._run_context import RunContext
from .._threads import in_file_thread
from .._tool import tool
from ._diff import diff_of
from ._places import Place, find_places, nearest
from ._text import EditableText, bytes_from_text, read_editable

__all__ = ["edit_file"]

_ATTEMPTS: Final = 50
"""How often an edit is made anew because others changed the file meanwhile. One of those who compete succeeds each time."""

_PLACES_SHOWN: Final = 10


@tool(on_host=False, timeout_s=60)
async def edit_file(
    context: RunContext,
    path: Annotated[str, Meta(description="File, relative to the workspace.")],
    old_text: Annotated[
        str, Meta(description="Text to replace, without line numbers; empty to create the file.")
    ],
    new_text: Annotated[str, Meta(description="Text to put there.")],
    replace_all: Annotated[bool, Meta(description="Replace every occurrence.")] = False,
    occurrence: Annotated[int, Meta(ge=0, description="Which occurrence to replace, from 1.")] = 0,
    line_hint: Annotated[
        int, Meta(ge=0, description="Replace the occurrence nearest to this line.")
    ] = 0,
    expected_replacements: Annotated[
        int, Meta(ge=0, description="Fail unless this many are replaced.")
    ] = 0,
) -> str:
    """Replace text in a file. old_text must occur once, or say which is meant; indentation may differ.

    Returns a diff.
    """
    choice = Choice(replace_all, occurrence, line_hint, expected_replacements)
    return await in_file_thread(lambda: _edited(context, path, old_text, new_text, choice))


class Choice:
    """Which of several places are meant; 0 stands for what is not given."""

    def __init__(
        self,
        replace_all: bool = False,
        occurrence: int = 0,
        line_hint: int = 0,
        expected: int = 0,
    ) -> None:
        if replace_all and (occurrence or line_hint):
            raise ToolError("replace_all excludes occurrence and line_hint; nothing was changed.")
        self._replace_all = replace_all
        self._occurrence = occurrence
        self._line_hint = line_hint
        self._expected = expected

    def of(self, places: list[Place], text: str, name: str) -> list[Place]:
        """Choose among places, of which there is at least one.

        Raises:
          ToolError: It is not clear which, or there are not as many as expected.
        """
        chosen = self._chosen(places, text, name)
        if self._expected and len(chosen) != self._expected:
            raise ToolError(
                f"{len(chosen):,} would be replaced in {name} instead of the expected {self._expected:,};"
                f" nothing was changed. old_text is in {listed(places, text)}"
            )
        return chosen

    def _chosen(self, places: list[Place], text: str, name: str) -> list[Place]:
        if self._replace_all:
            return places
        if self._occurrence:
            if self._occurrence > len(places):
                raise ToolError(
                    f"There is no occurrence {self._occurrence} in {name}: old_text is in {listed(places, text)}"
                )
            return [places[self._occurrence - 1]]
        if len(places) > 1 and self._line_hint:
            hint = self._line_hint
            places = sorted(places, key=lambda place: abs(place.line - hint))
            if abs(places[0].line - hint) < abs(places[1].line - hint):
                return [places[0]]
            places.sort(key=lambda place: place.start)
        if len(places) > 1:
            raise ToolError(
                f"old_text occurs {len(places):,} times in {name}; nothing was changed. It is in {listed(places, text)}"
                "\nAdd lines around it to old_text, or pass occurrence, line_hint or replace_all."
            )
        return places


def listed(places: list[Place], text: str) -> str:
    """The lines that places begin in, each with its number."""
    lines = [
        f"line {place.line}: {_line_at(text, place.start)}" for place in places[:_PLACES_SHOWN]
    ]
    if len(places) > _PLACES_SHOWN:
        lines.append(f"and {len(places) - _PLACES_SHOWN:,} more.")
    return "\n".join(["these places:", *lines])


def _line_at(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start : end if end >= 0 else len(text)].strip()
    return line if len(line) <= 100 else f"{line[:100]}…"


def _edited(context: RunContext, path: str, old: str, new: str, choice: Choice) -> str:
    content = bytes_from_text(new, "new_text")
    bytes_from_text(old, "old_text")
    name = context.confined.display(path)
    if old == "":
        return _created(context, path, name, content, new)
    if old == new:
        raise ToolError("old_text and new_text are the same; there is nothing to change.")
    for _ in range(_ATTEMPTS):
        trio.from_thread.check_cancelled()
        file = read_editable(context.confined, path)
        result, content = edited_text(file, old, new, choice, name)
        try:
            context.confined.write_file(path, content, expected=file.content)
        except ContentChanged:
            continue
        return result
    raise ToolError(f"{name} changes faster than it can be edited; nothing was changed.")


def _created(context: RunContext, path: str, name: str, content: bytes, new: str) -> str:
    try:
        context.confined.write_file(path, content, expected=Before.NOTHING)
    except FileExistsError:
        try:
            context.confined.write_file(path, content, expected=b"")
        except ContentChanged as error:
            raise ToolError(
                f"{name} exists and is not empty. Pass as old_text what should be replaced in it."
            ) from error
    return f"Created {name}: {len(new):,} characters."


def edited_text(
    file: EditableText, old: str, new: str, choice: Choice, name: str
) -> tuple[str, bytes]:
    """Make an edit; return what to say about it, and the bytes that the file shall have.

    Raises:
      ToolError: The text to replace is not there, or it is not clear which is meant.
    """
    old, new = old.replace("\r\n", "\n"), new.replace("\r\n", "\n")  # written as the file has them
    found = find_places(file.text, old, new)
    if not found.places:
        near = nearest(file.text, old)
        raise ToolError(
            f"old_text is not in {name}; nothing was changed. "
            + (near or "Nothing like it is there: read the file.")
        )
    chosen = choice.of(found.places, file.text, name)
    content = file.replaced([(place.start, place.end, place.new) for place in chosen])
    diff = diff_of(file.text, _with(file.text, chosen), name)
    if content == file.content:
        raise ToolError(f"{name} would stay as it is; there is nothing to change.")
    many = f", {len(chosen):,} places" if len(chosen) > 1 else ""
    tolerance = f" old_text differed in {found.tolerance}." if found.tolerance else ""
    return (
        f"Edited {name} (+{diff.added:,}/-{diff.removed:,}{many}).{tolerance}\n{diff.text}",
        content,
    )


def _with(text: str, places: list[Place]) -> str:
    pieces: list[str] = []
    done = 0
    for place in places:
        pieces += text[done : place.start], place.new
        done = place.end
    return "".join([*pieces, text[done:]])
