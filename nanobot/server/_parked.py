"""What an answer says beyond OpenAI's when there is none yet: the run waits for somebody's approval. Pure."""

from __future__ import annotations

import shlex
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from nanobot.agent import RunResult

__all__ = ["ParkedRun", "parked_run"]


class AwaitedApproval(Struct, frozen=True):
    """The call that waits, and what to do about it.

    Attributes:
      id: What `bot.approvals.approve` and `deny` take.
      session_key: The session, for `bot.resume`.
      name, arguments, tool_call_id: What will be run.
      expires_at: Seconds since 1970; then the call counts as denied.
      decide: How, in words for a person.
    """

    id: str
    session_key: str
    name: str
    arguments: dict[str, Any]
    tool_call_id: str
    expires_at: float
    decide: str


class ParkedRun(Struct, frozen=True):
    """Why there is no answer yet. The turn goes on when somebody has decided; a new message to the session gives it up."""

    approval: AwaitedApproval
    stop_reason: Literal["parked"] = "parked"


def parked_run(result: RunResult[Any]) -> ParkedRun | UnsetType:
    """What to say of a run that was parked; UNSET for any other."""
    told = result.metadata.get("approval")
    if told is None:
        return UNSET
    decide = (
        f"nanobot approvals approve {told['id']} (or deny), then nanobot agent --resume -s"
        f" {shlex.quote(told['session_key'])}, or POST /v1/resume; in a program: bot.approvals and bot.resume"
    )
    return ParkedRun(AwaitedApproval(**told, decide=decide))
