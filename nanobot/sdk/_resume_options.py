"""What a run that goes on with a turn is given, and what it remembers of the run that began the turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypedDict

from nanobot.agent import AgentHook, Budget, open_turn_from_bytes
from nanobot.runtime import REMEMBERED_OPTIONS
from nanobot.tools import Approver, Tool

__all__ = ["ResumeOptions", "Slips", "remembered_options"]

Slips: TypeAlias = tuple[tuple[str, bytes], ...]
"""What the store keeps of open turns: session keys and bodies."""


class ResumeOptions(TypedDict, total=False):
    """The keyword arguments of `resume` and its kin; each as for `run`, see `RunOptions`."""

    hooks: Sequence[AgentHook] | None
    model: str | None
    model_preset: str | None
    timeout_s: float | None
    max_iterations: int | None
    max_budget: Budget | None
    tools: Sequence[Tool] | None
    deps: Any
    approver: Approver | None
    tenant: str | None
    output_type: Any
    output_retries: int


def remembered_options(stored: Slips) -> dict[str, Any]:
    """What is kept of the arguments of the run that began a turn; nothing, if nothing is kept of the turn.

    Raises:
      StoreError: It cannot be read.
    """
    for _, body in stored:
        options = open_turn_from_bytes(body).options
        kept: dict[str, Any] = {
            name: options[name] for name in REMEMBERED_OPTIONS if name in options
        }
        if "max_budget" in kept:
            kept["max_budget"] = Budget(**kept["max_budget"])
        return kept
    return {}
