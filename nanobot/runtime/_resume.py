"""Where a turn goes on that was left: parked for an approval, or interrupted by a crash. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from nanobot.agent import OpenTurn, WaitingApproval
from nanobot.errors import NothingToResume
from nanobot.messages import Message, ToolMessage, UserMessage
from nanobot.tools import Denied

from ._request import RunRequest

__all__ = ["REMEMBERED_OPTIONS", "options_of", "turn_to_resume"]

REMEMBERED_OPTIONS: Final = (
    "channel",
    "chat_id",
    "sender_id",
    "model",
    "model_preset",
    "max_iterations",
    "max_budget",
    "tenant",
)
"""What is kept of a run's arguments. The others live in the program: functions, and what `deps` holds."""

_INTERRUPTED: Final = (
    "[from nanobot, not from the user] This turn was interrupted, and goes on now. What was begun after the last message"
    " before this one was not recorded, and may have been done: check before you repeat what must not be done twice."
)
_TOO_LATE: Final = (
    "nobody has decided about it in time. Do without it, or ask again what is wanted."
)


def options_of(request: RunRequest) -> dict[str, Any]:
    """What an open turn keeps of what was asked."""
    options = {name: getattr(request, name) for name in REMEMBERED_OPTIONS}
    return {
        name: msgspec.to_builtins(value) for name, value in options.items() if value is not None
    }


def turn_to_resume(
    key: str, state: OpenTurn | None, history: Sequence[Message], *, now: float
) -> OpenTurn:
    """The turn to go on with.

    Args:
      key: The session.
      state: What was kept of its turn.
      history: The session's messages, of which the last ones are looked at.
      now: Seconds since 1970.

    Raises:
      NothingToResume: There is none, or it waits for a decision.
    """
    if state is None:
        if not history or not isinstance(history[-1], UserMessage | ToolMessage):
            raise NothingToResume(
                f"session {key!r:.200} has no turn to go on with: its last one has ended"
            )
        return OpenTurn(
            arrived=(UserMessage(_INTERRUPTED, metadata={"injected_event": "resumed"}),)
        )
    waiting = state.undecided
    if waiting is None:
        return state
    if now < waiting.expires_at:
        raise NothingToResume(
            f"the turn of session {key!r:.200} waits for a decision about {waiting.request.name}: say"
            f" bot.approvals.approve({waiting.id!r}) or deny, and then resume it",
            approval_id=waiting.id,
        )
    return replace(state, waiting=_denied(waiting))


def _denied(waiting: WaitingApproval) -> WaitingApproval:
    return replace(waiting, decision=Denied(_TOO_LATE))
