"""What both APIs say about an answer in the same words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from typing import Any, Literal

from nanobot.agent import RunResult

__all__ = ["cut_short", "finish_reason", "new_id"]


def new_id(prefix: str) -> str:
    """An id nobody has seen before, such as `chatcmpl-0123456789abcdef01234567`."""
    return f"{prefix}{token_hex(12)}"


def finish_reason(result: RunResult) -> Literal["stop", "length"]:
    """Why an answer ended where it does."""
    return "length" if cut_short(result.stop_reason, result.metadata) else "stop"


def cut_short(stop_reason: str | None, metadata: Mapping[str, Any]) -> bool:
    """Whether an answer ended at a limit: of its tokens, or of the run's iterations."""
    return stop_reason == "max_iterations" or metadata.get("finish_reason") == "length"
