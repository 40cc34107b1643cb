"""What a client may say: one type for each kind of frame. They are read in `_frame_reading`."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from msgspec import Struct

from ._server_frames import Decided, ErrorReason

__all__ = [
    "CHAT_ID",
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
    "Resume",
    "Say",
    "SearchChats",
    "SetSidebarState",
    "SetWorkspaceScope",
    "TranscribeAudio",
    "UnwatchRuntime",
    "WatchRuntime",
    "WebuiRequest",
]

CHAT_ID: Final = re.compile(r"[A-Za-z0-9_:-]{1,64}")
"""What names a chat on the wire; the whole text must match."""


class FrameError(Exception):
    """A frame that cannot be followed: `reason` is for programs, the text for people. `turn_id` is the message that was
    refused, if it was one that had a name.
    """

    def __init__(
        self, reason: ErrorReason, detail: str, chat_id: str | None = None, turn_id: str = ""
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.chat_id = chat_id
        self.turn_id = turn_id


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


class SetWorkspaceScope(Struct, frozen=True, tag="set_workspace_scope", tag_field="type"):
    """Asks for another folder as the workspace of a chat. It is refused, whatever it names: see `docs/gateway.md`."""

    chat_id: str


class TranscribeAudio(Struct, frozen=True, tag="transcribe_audio", tag_field="type"):
    """Asks for the words of a recording, which is not looked at: there is nothing here that could tell them."""

    request_id: str


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
    """The decision on a tool call that waits for one; `reason` is told to the model. A parked turn goes on with it."""

    request_id: str
    decision: Decided
    chat_id: str = ""
    reason: str = ""


class Resume(Struct, frozen=True, tag="resume", tag_field="type"):
    """Asks that the turn of a chat goes on which was parked, and decided about elsewhere, or was interrupted by a crash."""

    chat_id: str = ""


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
    | SetWorkspaceScope
    | TranscribeAudio
    | WebuiRequest
    | Attach
    | Detach
    | Cancel
    | Approval
    | Resume
    | ListChats
    | SearchChats
    | DeleteChat
    | WatchRuntime
    | UnwatchRuntime
    | Ping
)
