"""`/v1/approvals`: what is said there, besides the approvals themselves. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from nanobot.sdk import PendingApproval

__all__ = ["ApprovalDecision", "ApprovalList"]


class ApprovalList(Struct, frozen=True):
    """What waits, that of the longest-known session first."""

    data: tuple[PendingApproval, ...]
    object: Literal["list"] = "list"


class ApprovalDecision(Struct, frozen=True, kw_only=True):
    """A decision about one call, with the arguments that are shown. It is made once."""

    decision: Literal["approved", "denied"]
    reason: Annotated[str, Meta(description="Of a denial, for the model to read.")] = ""
