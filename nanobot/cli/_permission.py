"""Asking the person at the terminal whether a tool may be run."""

from __future__ import annotations

from typing import Final

from rich.console import Group
from rich.text import Text

from nanobot.tools import ApprovalRequest, Denied

from ._fold import summary_of_call

__all__ = ["ALWAYS", "ANSWERS", "answer_from_line", "question"]

ALWAYS: Final = "always"
ANSWERS: Final = "y yes   n no   a always, for this tool"

_YES: Final = frozenset({"y", "yes"})
_ALWAYS: Final = frozenset({"a", ALWAYS})
_NO: Final = frozenset({"", "n", "no"})


def answer_from_line(line: str) -> bool | Denied | str:
    """What a typed line decides: True, False, `ALWAYS`, or a refusal with the line as its reason. Pure.

    Only the exact words approve: somebody who was typing something else when the question came up does not.
    """
    word = line.strip().lower()
    if word in _YES:
        return True
    if word in _ALWAYS:
        return ALWAYS
    return False if word in _NO else Denied(reason=line.strip())


def question(request: ApprovalRequest, *, width: int) -> Group:
    """What is asked, with all of the arguments that fit."""
    call = summary_of_call(request.name, request.arguments, width=4 * width)
    return Group(
        Text.assemble(("  ? ", "bold yellow"), "may it run this?  ", (call, "bold")),
        Text(f"    {ANSWERS}, or say why not", style="dim"),
    )
