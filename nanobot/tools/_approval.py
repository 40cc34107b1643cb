"""Asking somebody before a tool is run: what they are told, what they may answer, and who is asked about what."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from fnmatch import fnmatchcase
from inspect import isawaitable
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct, field

from ._cross import Cross

__all__ = [
    "NO_APPROVAL",
    "Approval",
    "ApprovalMode",
    "ApprovalRequest",
    "Approved",
    "Approver",
    "Decision",
    "Denied",
    "Park",
    "mode_by_name",
    "rules_without_a_tool",
]

ApprovalMode: TypeAlias = Literal["ask", "never"]
"""Whether somebody is asked before each call of a tool."""

_log = logging.getLogger("nanobot.approval")

_WILD: Final = frozenset("*?[")

_NOBODY: Final = "it needs somebody's approval, and nobody is there to give it. Do without it, or say what you would need it for."
CANNOT_WAIT: Final = (
    "it needs somebody's approval, and this run cannot wait for it. Say what you would need it for."
)
_DENIED: Final = (
    "it was not approved. Do not try the same again; go another way, or ask what is wanted instead."
)


class ApprovalRequest(Struct, frozen=True, kw_only=True):
    """One tool call that waits for a decision. Plain data: it can be written down and decided on later.

    Attributes:
      name: The tool's name.
      arguments: What it will be run with, as the model (or a hook) wrote it and already checked: a JSON object.
      tool_call_id: The id of the call, unique within the model's answer.
      session_key: The session whose run waits.
      description: What the tool says of itself, as the model is told.
      iteration: The answer of the model that asked for the call, counted from 0.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    tool_call_id: str = ""
    session_key: str = ""
    description: str = ""
    iteration: int = 0


class Approved(Struct, frozen=True, tag_field="decision", tag="approved"):
    """The call may be run; the same as True."""


class Denied(Struct, frozen=True, tag_field="decision", tag="denied"):
    """The call must not be run; False is the same without a reason.

    Attributes:
      reason: What the model is told, so write it for the model. "" says only that it was not approved.
    """

    reason: str = ""


class Park(Struct, frozen=True):
    """Nobody decides now: the run ends, its turn is kept in the store, and `bot.approvals` has the question.

    What an approver returns; and an approver itself, that parks every question: `approver=Park()`.

    Attributes:
      expires_s: Seconds in which somebody has to decide; after that the call is denied. None is
        `tools.approvalExpiresAfterHours`.
    """

    expires_s: float | None = None

    def __call__(self, request: ApprovalRequest) -> Park:
        """Be the approver that answers with this."""
        return self


Decision: TypeAlias = Approved | Denied

Approver: TypeAlias = Callable[
    [ApprovalRequest], Awaitable[bool | Decision | Park] | bool | Decision | Park
]
"""Decides on one call; async or not. It is called in the loop, thread and context of whoever started the run, so one that
waits for a person must be async wherever that loop has other things to do."""


class Approval(Struct, frozen=True, eq=False):
    """Who is asked in a run, and before which tools.

    Attributes:
      approver: Who is asked. Without anybody, calls that need approval are denied.
      rules: The mode of tools by name or by pattern (`*`, `?`, `[…]`), over what the tools say themselves.
      may_park: Whether the run can be parked: it is no part of another, and keeps what is said in it.
      park_unattended: Park it if nobody is there to be asked.
      expires_s: Seconds in which somebody has to decide then, unless the approver says otherwise.
    """

    approver: Approver | None = None
    rules: Mapping[str, ApprovalMode] = field(default_factory=dict)
    may_park: bool = False
    park_unattended: bool = False
    expires_s: float = 86_400.0

    @property
    def can_park(self) -> bool:
        """Whether a question may end with the run being parked."""
        return self.may_park and (self.approver is not None or self.park_unattended)

    def needed(self, name: str, own: ApprovalMode) -> bool:
        """Whether a call of the tool of that name, whose own mode is `own`, has to be approved."""
        return (mode_by_name(name, self.rules) or own) == "ask"

    async def decide(self, request: ApprovalRequest, cross: Cross) -> Denied | Park | None:
        """Ask; return the denial, None if the call may be run, or how to park. Whoever does not say yes says no.

        Raises:
          BaseException: Whatever the approver raised.

        Cancellation: the approver is cancelled, and has ended when this returns.
        """
        if self.approver is None:
            if not (self.park_unattended and self.may_park):
                return Denied(_NOBODY)
            return Park(self.expires_s)
        answer: object = await cross(_ask, self.approver, request)
        match answer:
            case True | Approved():
                return None
            case False:
                return Denied(_DENIED)
            case Denied(reason=reason):
                return Denied(reason.strip() or _DENIED)
            case Park(expires_s=expires_s) if self.may_park:
                return Park(self.expires_s if expires_s is None else expires_s)
            case Park():
                return Denied(CANNOT_WAIT)
        _log.error(
            "the approver answered with %s about %s, which is neither yes nor no; it is not run",
            type(answer).__name__,
            request.name,
        )
        return Denied("whoever approves gave no clear answer.")


NO_APPROVAL: Final = Approval()
"""Nobody to ask."""


def mode_by_name(name: str, rules: Mapping[str, ApprovalMode]) -> ApprovalMode | None:
    """What rules say of a tool: its name, spelled out, before all patterns; of several patterns "ask" wins.

    So the order of the rules means nothing, and none is there that could be overlooked behind another.
    """
    if (exact := rules.get(name)) is not None:
        return exact
    modes = {
        mode
        for pattern, mode in rules.items()
        if _WILD & set(pattern) and fnmatchcase(name, pattern)
    }
    return "ask" if "ask" in modes else "never" if modes else None


def rules_without_a_tool(rules: Mapping[str, ApprovalMode], names: Collection[str]) -> list[str]:
    """Rules that spell out a name which is no tool's, each with what may have been meant; for a warning.

    Names of MCP tools are left out: which there are is known when their server was reached.
    """
    return [
        f"{name!r}{_meant(name, names)}"
        for name in rules
        if not (_WILD & set(name) or name in names or name.startswith("mcp_"))
    ]


def _meant(name: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


async def _ask(approver: Approver, request: ApprovalRequest) -> object:
    """On the approver's side of the crossing: in a loop of any kind, so nothing here may touch Trio."""
    answer = approver(request)
    return await answer if isawaitable(answer) else answer
