"""What the gateway says: one JSON object per frame, told apart by `event`."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

__all__ = [
    "ApprovalEnd",
    "ApprovalRequested",
    "Attached",
    "ChatFrame",
    "ChatRow",
    "Chats",
    "Decided",
    "Deleted",
    "Delta",
    "Error",
    "ErrorReason",
    "Limits",
    "Message",
    "MessageAccepted",
    "PendingTurn",
    "Pong",
    "Ready",
    "ReasoningDelta",
    "ReasoningEnd",
    "RuntimeSeen",
    "ServerFrame",
    "SidebarState",
    "StreamEnd",
    "Tool",
    "TranscriptionError",
    "TurnEnd",
    "TurnError",
    "TurnResumed",
    "TurnStart",
    "UserMessage",
    "WebuiResponse",
    "encode_frame",
]

ErrorReason: TypeAlias = Literal[
    "bad_frame",
    "bad_chat_id",
    "bad_media",
    "empty",
    "too_long",
    "rate_limited",
    "too_many_chats",
    "queue_full",
    "no_such_chat",
    "no_such_request",
    "workspace_scope_rejected",
    "draining",
    "unavailable",
]
"""Why a frame of a client was not followed."""

Decided: TypeAlias = Literal["approved", "denied"]
"""What somebody says of a tool call that waits."""


class _Frame(Struct, frozen=True, tag_field="event", omit_defaults=True):
    """One frame. Fields that have their default value are left out on the wire."""


class Limits(Struct, frozen=True):
    """What a message may bring: so many files, of so many bytes each and together."""

    files: int
    file_bytes: int
    message_bytes: int


class Ready(_Frame, frozen=True, tag="ready"):
    """The first frame of a connection: its own chat, and the name by which it is known."""

    chat_id: str
    client_id: str
    limits: Limits
    model: str = ""
    server: str = ""


class PendingTurn(Struct, frozen=True):
    """A turn that has not ended, and what it is to answer."""

    turn_id: str
    text: str
    media: list[str] = []


class Attached(_Frame, frozen=True, tag="attached"):
    """From here on this connection gets the frames of a chat.

    `epoch` and `seq` are where it stands: the next frame of the chat has `seq + 1`. `resumed` says whether that is where
    the client said it was; if not, `messages` is the history up to `seq`, and what the client has is to be forgotten.
    `turns` are those that the history is without: the one whose frames come next, and those that wait. `truncated`
    says that the start of the turn under way is gone, and `temporary` that nothing of the chat is stored. `approval` is
    what the chat's parked turn waits for.
    """

    chat_id: str
    epoch: str
    seq: int
    resumed: bool
    running: bool
    truncated: bool = False
    messages: list[dict[str, Any]] | None = None
    turns: list[PendingTurn] = []
    approval: dict[str, Any] | None = None
    temporary: bool = False


class MessageAccepted(_Frame, frozen=True, tag="message_accepted"):
    """A message that its client gave a name was taken in, now or when it came before: it need not be sent again."""

    chat_id: str
    turn_id: str


class Error(_Frame, frozen=True, tag="error"):
    """A frame of this client was not followed; `turn_id` is the message that was refused, if it had a name."""

    detail: str
    reason: ErrorReason
    chat_id: str | None = None
    turn_id: str | None = None
    retry_after_s: float | None = None


class ChatRow(Struct, frozen=True, omit_defaults=True):
    """One chat in a list; times are ISO 8601 with an offset."""

    chat_id: str
    title: str
    updated_at: str
    message_count: int
    running: bool = False
    excerpt: str = ""


class Chats(_Frame, frozen=True, tag="chats"):
    """The chats that were asked for; `query` is set if that was by a search."""

    chats: list[ChatRow]
    query: str | None = None


class Deleted(_Frame, frozen=True, tag="chat_deleted"):
    """A chat and all that was stored of it are gone."""

    chat_id: str


class SidebarState(_Frame, frozen=True, tag="sidebar_state_updated"):
    """What pages want to remember of their lists of chats, after somebody changed it."""

    state: dict[str, Any]


class WebuiResponse(_Frame, frozen=True, tag="webui_response"):
    """The answer to a `webui_request`."""

    request_id: str
    ok: bool
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class TranscriptionError(_Frame, frozen=True, tag="transcription_error"):
    """A recording was not turned into text."""

    request_id: str
    detail: str


class RuntimeSeen(_Frame, frozen=True, tag="runtime"):
    """The runtime at one moment; only the latest is sent to a client that is slow."""

    at_s: float
    statistics: Any
    bounds_s: tuple[float, ...]
    connections: int
    dropped: int


class Pong(_Frame, frozen=True, tag="pong"):
    """The answer to a client's `ping`."""


class ChatFrame(_Frame, frozen=True):
    """A frame of one chat. Everyone who is attached gets the same ones, numbered by `seq` without a gap; where deltas were
    joined because a client was behind, `seq` is that of the last of them.
    """

    chat_id: str
    turn_id: str
    seq: int = 0


class UserMessage(ChatFrame, frozen=True, kw_only=True, tag="user_message"):
    """A message was taken in, and will be answered in its turn. `media` are the names of its files."""

    text: str
    client_id: str = ""
    media: list[str] = []


class TurnResumed(ChatFrame, frozen=True, kw_only=True, tag="turn_resumed"):
    """A turn that was parked or interrupted will go on, under this name. `request_id` is the `id` of the approval that it was
    parked with, and `decision` what was said, if that was said here.
    """

    request_id: str = ""
    decision: Decided | None = None
    client_id: str = ""


class TurnStart(ChatFrame, frozen=True, kw_only=True, tag="turn_start"):
    """The turn began: everything before it in its session has ended."""

    model: str = ""


class Delta(ChatFrame, frozen=True, kw_only=True, tag="delta"):
    """The next piece of text."""

    stream_id: str
    text: str


class StreamEnd(ChatFrame, frozen=True, kw_only=True, tag="stream_end"):
    """A text is complete; with `resuming` the turn goes on, with tool calls."""

    stream_id: str
    resuming: bool


class ReasoningDelta(ChatFrame, frozen=True, kw_only=True, tag="reasoning_delta"):
    """The next piece of reasoning."""

    stream_id: str
    text: str


class ReasoningEnd(ChatFrame, frozen=True, kw_only=True, tag="reasoning_end"):
    """A piece of reasoning is complete."""

    stream_id: str


class Tool(ChatFrame, frozen=True, kw_only=True, tag="tool"):
    """A tool call began, or ended."""

    phase: Literal["started", "completed", "failed"]
    call_id: str
    name: str
    arguments: dict[str, Any] = {}
    result: str | None = None
    error: str | None = None
    outcome: str | None = None
    elapsed_ms: int | None = None


class ApprovalRequested(ChatFrame, frozen=True, kw_only=True, tag="approval_request"):
    """A tool call waits for somebody to say whether it may be run."""

    request_id: str
    call_id: str
    name: str
    arguments: dict[str, Any] = {}
    description: str


class ApprovalEnd(ChatFrame, frozen=True, kw_only=True, tag="approval_end"):
    """Nobody here has to decide any more: somebody did, time ran out, or the turn ended or was parked."""

    request_id: str
    decision: Literal["approved", "denied", "expired", "parked", "withdrawn"]


class Message(ChatFrame, frozen=True, kw_only=True, tag="message"):
    """A whole text that was not streamed; it stands in place of the last stream of its turn."""

    text: str


class TurnError(ChatFrame, frozen=True, kw_only=True, tag="error"):
    """The turn failed; `reason` is its stop reason."""

    detail: str
    reason: str


class TurnEnd(ChatFrame, frozen=True, kw_only=True, tag="turn_end"):
    """The turn is over. Exactly one for each `user_message` and each `turn_resumed`. `approval` is what a parked one waits for:
    see `bot.approvals`.
    """

    stop_reason: str
    latency_ms: int
    usage: dict[str, int] = {}
    approval: dict[str, Any] | None = None


ServerFrame: TypeAlias = (
    Ready
    | Attached
    | MessageAccepted
    | TranscriptionError
    | Error
    | Chats
    | Deleted
    | RuntimeSeen
    | SidebarState
    | WebuiResponse
    | Pong
    | ChatFrame
)

_ENCODER: Final = msgspec.json.Encoder()


def encode_frame(frame: ServerFrame) -> bytes:
    """The frame as JSON."""
    return _ENCODER.encode(frame)
