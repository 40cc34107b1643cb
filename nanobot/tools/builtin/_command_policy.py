"""Whether a command may be run, by what it says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from nanobot.errors import ToolError

from ._dangers import danger_in
from ._shell_syntax import TooIntricate, commands_of

__all__ = ["CommandPolicy"]

_LONGEST: Final = 100_000
"""Characters. Linux passes 131,072 bytes as one argument."""


class CommandPolicy:
    """The owner's patterns, and the built-in list of what destroys too much.

    With `allow`, every command of a line has to match one of its patterns as a whole, and is then run whatever else is
    said; without, a line is refused if one of `deny` is found in it, or if it is on the built-in list.
    """

    def __init__(self, allow: Sequence[str] = (), deny: Sequence[str] = ()) -> None:
        self._allow = [re.compile(pattern) for pattern in allow]
        self._deny = [re.compile(pattern, re.IGNORECASE) for pattern in deny]

    def check(self, text: str) -> None:
        """Refuse a line of shell that may not be run.

        Raises:
          ToolError: It may not, with the reason.
        """
        if not text.strip():
            raise ToolError("The command is empty.")
        if "\0" in text:
            raise ToolError("A command cannot contain a NUL character.")
        if len(text) > _LONGEST:
            raise ToolError(
                f"The command has {len(text):,} characters; {_LONGEST:,} are the limit. Put it into a file and run that."
            )
        if self._allow:
            self._check_allowed(text)
            return
        for pattern in self._deny:
            if any(pattern.search(each) for each in (text, *_lines_of(text))):
                raise ToolError(
                    "This command is refused by tools.exec.denyPatterns. It was not run."
                )
        if danger := danger_in(text):
            raise ToolError(
                f"This command is refused: {danger}. It was not run. Do what is needed in smaller steps that name each"
                " file, or ask the user to do it; the owner can permit commands with tools.exec.allowPatterns."
            )

    def _check_allowed(self, text: str) -> None:
        try:
            sources = [command.source for command in commands_of(text)]
        except TooIntricate:
            sources = [text]
        for source in sources:
            if not any(pattern.fullmatch(source) for pattern in self._allow):
                raise ToolError(
                    f"Only commands that match tools.exec.allowPatterns may be run, and {source[:200]!r} does not."
                    " It was not run."
                )


def _lines_of(text: str) -> list[str]:
    """The commands with their quotes removed, which might hide what a pattern looks for."""
    try:
        return [" ".join(command.words) for command in commands_of(text)]
    except TooIntricate:
        return []
