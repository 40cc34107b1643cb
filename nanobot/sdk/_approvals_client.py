"""`bot.approvals`: the calls of tools that parked turns wait for, and deciding about them."""

from __future__ import annotations

import logging
import time
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from nanobot.agent import OpenTurn, WaitingApproval, open_turn_from_bytes
from nanobot.errors import ApprovalGone, InvalidArgument, StoreError
from nanobot.runtime import OPEN_TURN
from nanobot.sessions import SessionStore
from nanobot.sessions._rows import json_bytes
from nanobot.tools import Approved, Decision, Denied

__all__ = ["ApprovalState", "ApprovalsClient", "PendingApproval"]

_log = logging.getLogger("nanobot.approval")

ApprovalState: TypeAlias = Literal["waiting", "approved", "denied", "expired"]


class PendingApproval(Struct, frozen=True, kw_only=True):
    """A call that a parked turn waits for. Plain data.

    Attributes:
      id: What `approve` and `deny` take.
      session_key: The session whose turn is parked, for `bot.resume`.
      state: "waiting" for a decision; "approved" or "denied", and then waiting for `bot.resume`; or "expired", which is denied.
      name, arguments, description: The tool, what it will be run with, and what it says of itself.
      tool_call_id, iteration: Which call of which answer of the model.
      asked_at, expires_at: Seconds since 1970; nobody can decide after the latter.
      reason: Why it was denied.
    """

    id: str
    session_key: str
    state: ApprovalState
    name: str
    arguments: dict[str, Any]
    description: str
    tool_call_id: str
    iteration: int
    asked_at: float
    expires_at: float
    reason: str = ""


# Inside the class, `list` is a method.
_Pending: TypeAlias = list[PendingApproval]

_TRIES: Final = 5
"""How often a decision is tried that somebody else's write comes in between of. Only decisions and resumed turns write here,
so a second try sees either of them."""


class ApprovalsClient:
    """The approvals that turns wait for, of all sessions in the bot's store. Made by `Nanobot`.

    Plain calls, from any thread, loop and process that has the store; also after the bot was closed, for looking. All raise
    `StoreError` if the store cannot do its work.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def list(self, session_key: str | None = None) -> _Pending:
        """Return what turns wait for, that of the longest-known session first; of one session, if one is named.

        What was decided stays in the list until the turn goes on.
        """
        found = (_pending(turn, waiting) for _, _, turn, waiting in self._waiting(session_key))
        return [*found]

    def get(self, approval_id: str) -> PendingApproval | None:
        """Return one, or None if nobody waits for it."""
        for _, _, turn, waiting in self._waiting(None):
            if waiting.id == approval_id:
                return _pending(turn, waiting)
        return None

    def approve(self, approval_id: str) -> PendingApproval:
        """Let the call be run, once, by whoever resumes the turn; with the arguments that were shown and no others.

        Raises:
          ApprovalGone: Nobody waits for it: it was decided before, has expired, or its turn is over.
        """
        return self._decide(approval_id, Approved())

    def deny(self, approval_id: str, reason: str = "") -> PendingApproval:
        """Have the model told that the call is not run, and why: `reason` is written for the model.

        Raises:
          ApprovalGone: As `approve`.
        """
        if not isinstance(reason, str):
            raise InvalidArgument(f"reason must be a string, not {type(reason).__name__}")
        return self._decide(approval_id, Denied(reason.strip()))

    def _decide(self, approval_id: str, decision: Decision) -> PendingApproval:
        if not isinstance(approval_id, str):
            raise InvalidArgument(f"an approval is named by a string, not {approval_id!r:.200}")
        for _ in range(_TRIES):
            key, body, turn, waiting = self._found(approval_id)
            decided = replace(waiting, decision=decision)
            state = replace(turn, waiting=decided)
            if self._store.swap_slip(key, OPEN_TURN, body, json_bytes(state)):
                return _pending(state, decided)
        raise ApprovalGone(
            f"approval {approval_id} is being decided by somebody else",
            approval_id=approval_id,
            reason="decided",
        )

    def _found(self, approval_id: str) -> tuple[str, bytes, OpenTurn, WaitingApproval]:
        for key, body, turn, waiting in self._waiting(None):
            if waiting.id != approval_id:
                continue
            if waiting.decision is not None:
                raise ApprovalGone(
                    f"approval {approval_id} was decided before",
                    approval_id=approval_id,
                    reason="decided",
                )
            if time.time() >= waiting.expires_at:
                raise ApprovalGone(
                    f"approval {approval_id} has expired: the call counts as denied",
                    approval_id=approval_id,
                    reason="expired",
                )
            return key, body, turn, waiting
        raise ApprovalGone(
            f"nobody waits for approval {approval_id:.100}: its turn went on, or was given up",
            approval_id=approval_id,
            reason="unknown",
        )

    def _waiting(self, key: str | None) -> _Found:
        found: _Found = []
        for session_key, body in self._store.list_slips(OPEN_TURN, key=key):
            try:
                turn = open_turn_from_bytes(body)
            except StoreError as error:  # of this session: the others are none the worse for it
                _log.error("session %.200r: %s", session_key, error)
                continue
            if turn.waiting is not None and not turn.consumed:
                found.append((session_key, body, turn, turn.waiting))
        return found


_Found: TypeAlias = list[tuple[str, bytes, OpenTurn, WaitingApproval]]


def _pending(turn: OpenTurn, waiting: WaitingApproval) -> PendingApproval:
    request = waiting.request
    return PendingApproval(
        id=waiting.id,
        session_key=request.session_key,
        state=_state(waiting),
        name=request.name,
        arguments=request.arguments,
        description=request.description,
        tool_call_id=request.tool_call_id,
        iteration=turn.iteration,
        asked_at=waiting.asked_at,
        expires_at=waiting.expires_at,
        reason=waiting.decision.reason if isinstance(waiting.decision, Denied) else "",
    )


def _state(waiting: WaitingApproval) -> ApprovalState:
    match waiting.decision:
        case Approved():
            return "approved"
        case Denied():
            return "denied"
        case None:
            return "expired" if time.time() >= waiting.expires_at else "waiting"
