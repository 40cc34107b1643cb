"""What a client may say: one JSON frame, or plain text, becomes one typed value. Pure."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from ._server_frames import ErrorReason

__all__ = [
    "CHAT_ID",
    "MAX_TEXT_CHARS",
    "Approval",
    "Attach",
    "Cancel",
    "ClientFrame",
    "DeleteChat",
    "Detach",
    "DiscardTemporaryChat",
    "ForkChat",
    "FrameError",
    "ListChats",
    "Media",
    "NewChat",
    "NewTemporaryChat",
    "Ping",
    "Say",
    "SearchChats",
    "SetSidebarState",
    "UnwatchRuntime",
    "WatchRuntime",
    "WebuiRequest",
    "read_client_frame",
]

CHAT_ID: Final = re.compile(r"[A-Za-z0-9_:-]{1,64}")
"""What names a chat on the wire; the whole text must match."""

MAX_TEXT_CHARS: Final = 65_536
"""Longest message of a user: beyond it somebody pastes a book, which belongs into a file."""

_MAX_QUERY_CHARS: Final = 1_000
_MAX_TITLE_CHARS: Final = 200
_MAX_HISTORY: Final = 1_000
_MAX_NAME_CHARS: Final = 128


class FrameError(Exception):
    """A frame that cannot be followed: `reason` is for programs, the text for people."""

    def __init__(self, reason: ErrorReason, detail: str, chat_id: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.chat_id = chat_id


class Media(Struct, frozen=True):
    """A file of a message, as a `data:` URL; `name` is what the client calls it."""

    data_url: str
    name: str | None = None


class Say(Struct, frozen=True, tag="message", tag_field="type"):
    """A user's message. `chat_id` "" is the connection's own chat; `turn_id` is the client's name for the turn, or ""."""

    content: str
    chat_id: str = ""
    turn_id: str = ""
    media: list[Media] = []


class NewChat(Struct, frozen=True, tag="new_chat", tag_field="type"):
    """Asks for a chat that did not exist before."""


class NewTemporaryChat(Struct, frozen=True, tag="new_temporary_chat", tag_field="type"):
    """Asks for a chat of which nothing is stored, for this connection alone and as long as it lasts."""


class DiscardTemporaryChat(Struct, frozen=True, tag="discard_temporary_chat", tag_field="type"):
    """Asks for the end of one."""

    chat_id: str


class ForkChat(Struct, frozen=True, tag="fork_chat", tag_field="type"):
    """Asks for a new chat that begins as another one did, up to the user's message of that number, counted from 0."""

    source_chat_id: str
    before_user_index: int | None = None
    title: str = ""


class SetSidebarState(Struct, frozen=True, tag="set_sidebar_state", tag_field="type"):
    """Asks to keep what a page wants to remember of its list of chats: pins, names, an order."""

    state: dict[str, Any]


class WebuiRequest(Struct, frozen=True, tag="webui_request", tag_field="type"):
    """The same, from newer pages, which want an answer to each request; `sidebar.update` is what there is of it here."""

    request_id: str
    action: str
    payload: dict[str, Any] = {}


class Attach(Struct, frozen=True, tag="attach", tag_field="type"):
    """Asks for the frames of a chat from now on; with `epoch` and `after`, from behind that frame on.

    `history` is how many of the chat's latest messages are wanted if the frames cannot be had from `after` on; with 0,
    none are, and neither is what there is of a turn under way.
    """

    chat_id: str
    epoch: str = ""
    after: int = 0
    history: int = 0


class Detach(Struct, frozen=True, tag="detach", tag_field="type"):
    """Asks for no more frames of a chat. Its turns go on."""

    chat_id: str


class Cancel(Struct, frozen=True, tag="cancel", tag_field="type"):
    """Asks for the end of a turn, or of all turns of the chat, queued ones too, if none is named."""

    chat_id: str = ""
    turn_id: str = ""


class Approval(Struct, frozen=True, tag="approval", tag_field="type"):
    """The decision on a tool call that waits for one; `reason` is told to the model."""

    request_id: str
    decision: Literal["approved", "denied"]
    chat_id: str = ""
    reason: str = ""


class ListChats(Struct, frozen=True, tag="list_chats", tag_field="type"):
    """Asks for the chats that are stored, newest first."""

    limit: int = 200


class SearchChats(Struct, frozen=True, tag="search_chats", tag_field="type"):
    """Asks for the chats in which a text occurs."""

    query: str
    limit: int = 50


class DeleteChat(Struct, frozen=True, tag="delete_chat", tag_field="type"):
    """Asks for the end of a chat and of all that is stored of it."""

    chat_id: str


class WatchRuntime(Struct, frozen=True, tag="watch_runtime", tag_field="type"):
    """Asks for the runtime's statistics, now and every second."""


class UnwatchRuntime(Struct, frozen=True, tag="unwatch_runtime", tag_field="type"):
    """Asks for no more statistics."""


class Ping(Struct, frozen=True, tag="ping", tag_field="type"):
    """Asks for a `pong`: for clients that cannot see the pings of the protocol, as browsers cannot."""


ClientFrame: TypeAlias = (
    Say
    | NewChat
    | NewTemporaryChat
    | DiscardTemporaryChat
    | ForkChat
    | SetSidebarState
    | WebuiRequest
    | Attach
    | Detach
    | Cancel
    | Approval
    | ListChats
    | SearchChats
    | DeleteChat
    | WatchRuntime
    | UnwatchRuntime
    | Ping
)

_DECODER: Final[msgspec.json.Decoder[ClientFrame]] = msgspec.json.Decoder(ClientFrame)
_OBJECT: Final[msgspec.json.Decoder[dict[str, Any]]] = msgspec.json.Decoder(dict[str, Any])


def read_client_frame(text: str) -> ClientFrame:
    """Understand one text message of a client.

    A JSON object with a `type` is what its type says. One without is a message, in `content`, `text` or `message`. All
    else is a message as it stands, also JSON that is no object: people write what they like.

    Raises:
      FrameError: The object is none that a client may send, or a field is out of its bounds.
    """
    try:
        raw = _OBJECT.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return _checked(Say(text))
    if "type" not in raw:
        media = _media_of(raw)
        text = _untyped_text(raw)
        return _checked(Say(text, _text_of(raw, "chat_id"), _text_of(raw, "turn_id"), media))
    try:
        return _checked(_DECODER.decode(text))
    except msgspec.ValidationError as error:
        raise FrameError("bad_frame", str(error)) from None


def _untyped_text(raw: dict[str, Any]) -> str:
    for name in ("content", "text", "message"):
        if isinstance(raw.get(name), str):
            return str(raw[name])
    raise FrameError("bad_frame", "an object without `type` must have `content`, a string")


def _text_of(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name, "")
    if not isinstance(value, str):
        raise FrameError("bad_frame", f"`{name}` must be a string")
    return value


def _media_of(raw: dict[str, Any]) -> list[Media]:
    try:
        return msgspec.convert(raw.get("media", []), list[Media])
    except msgspec.ValidationError as error:
        raise FrameError("bad_frame", f"`media`: {error}") from None


def _checked(frame: ClientFrame) -> ClientFrame:
    chat_id: str | None = getattr(frame, "chat_id", None)
    optional = isinstance(frame, (Say, Cancel, Approval))
    if chat_id is not None and not (chat_id == "" and optional) and not CHAT_ID.fullmatch(chat_id):
        raise FrameError("bad_chat_id", "`chat_id` must be 1 to 64 of A-Z a-z 0-9 _ : -")
    match frame:
        case Say(content=content, media=media):
            if not content.strip() and not media:
                raise FrameError("empty", "a message must not be empty", chat_id)
            if len(content) > MAX_TEXT_CHARS:
                limit = f"a message may have {MAX_TEXT_CHARS} characters, not {len(content)}"
                raise FrameError("too_long", limit, chat_id)
            _bounded(frame.turn_id, "turn_id", _MAX_NAME_CHARS)
        case Attach():
            _bounded(frame.epoch, "epoch", _MAX_NAME_CHARS)
            if not (0 <= frame.history <= _MAX_HISTORY and frame.after >= 0):
                raise FrameError(
                    "bad_frame", f"`history` must be 0 to {_MAX_HISTORY}, and `after` >= 0", chat_id
                )
        case Cancel(turn_id=turn_id):
            _bounded(turn_id, "turn_id", _MAX_NAME_CHARS)
        case Approval():
            _bounded(frame.request_id, "request_id", _MAX_NAME_CHARS)
            _bounded(frame.reason, "reason", MAX_TEXT_CHARS)
        case SearchChats():
            _bounded(frame.query, "query", _MAX_QUERY_CHARS)
            _listed(frame.limit)
        case ListChats(limit=limit):
            _listed(limit)
        case ForkChat(source_chat_id=source, before_user_index=index):
            if not CHAT_ID.fullmatch(source) or (index is not None and index < 0):
                raise FrameError(
                    "bad_frame",
                    "`source_chat_id` must name a chat, and `before_user_index` be >= 0",
                )
            _bounded(frame.title, "title", _MAX_TITLE_CHARS)
        case WebuiRequest(request_id=request_id):
            _bounded(request_id, "request_id", _MAX_NAME_CHARS)
        case _:
            pass
    return frame


def _bounded(text: str, name: str, limit: int) -> None:
    if len(text) > limit:
        raise FrameError("bad_frame", f"`{name}` may have {limit} characters, not {len(text)}")


def _listed(limit: int) -> None:
    if not 1 <= limit <= _MAX_HISTORY:
        raise FrameError("bad_frame", f"`limit` must be 1 to {_MAX_HISTORY}")
