"""What the parked turn of a chat waits for, and deciding about it. Plain calls, which wait for the store."""

from __future__ import annotations

from typing import Any

from nanobot import Nanobot, PendingApproval
from nanobot.errors import ApprovalGone

from ._client_frames import FrameError
from ._server_frames import Decided

__all__ = ["decide_parked", "facts_of_parked"]


def facts_of_parked(bot: Nanobot, key: str) -> dict[str, Any] | None:
    """What a client is told of the call that a session's parked turn waits for; None if there is no such turn.

    Raises:
      StoreError: The session cannot be read.
    """
    for pending in bot.approvals.list(key):
        return {
            "id": pending.id,
            "name": pending.name,
            "arguments": pending.arguments,
            "description": pending.description,
            "tool_call_id": pending.tool_call_id,
            "expires_at": pending.expires_at,
            "state": pending.state,
        }
    return None


def decide_parked(bot: Nanobot, key: str, approval_id: str, decision: Decided, reason: str) -> None:
    """Decide about a call that a session's parked turn waits for. What was decided before stays so.

    Raises:
      FrameError: It does not wait for this, or no longer.
      StoreError: The session cannot be read or written.
    """
    pending = _found(bot, key, approval_id)
    if pending.state in ("approved", "denied") or (pending.state, decision) == (
        "expired",
        "denied",
    ):
        return
    try:
        if decision == "approved":
            bot.approvals.approve(approval_id)
        else:
            bot.approvals.deny(approval_id, reason)
    except ApprovalGone as gone:
        if gone.reason != "decided":
            raise FrameError("no_such_request", str(gone)) from None


def _found(bot: Nanobot, key: str, approval_id: str) -> PendingApproval:
    for pending in bot.approvals.list(key):
        if pending.id == approval_id:
            return pending
    raise FrameError("no_such_request", "nothing waits for this decision")
