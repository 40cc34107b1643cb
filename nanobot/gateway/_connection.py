"""One WebSocket: it reads frames as fast as they are allowed to come, and sends what its chats have for it, at its own pace."""

from __future__ import annotations

import logging
import secrets
from collections import deque
from functools import partial
from typing import Any, Final, Protocol, assert_never

import trio
from msgspec.structs import replace
from trio_websocket import ConnectionClosed, WebSocketConnection

from actors import TrioNotify
from nanobot import Nanobot
from nanobot.errors import NanobotError

from ._chat import Chat
from ._chat_log import Behind
from ._chat_rows import delete_session, found_rows, listed_rows
from ._chats import Chats
from ._client_frames import (
    Approval,
    Attach,
    Cancel,
    ClientFrame,
    DeleteChat,
    Detach,
    DiscardTemporaryChat,
    ForkChat,
    FrameError,
    ListChats,
    NewChat,
    NewTemporaryChat,
    Ping,
    Resume,
    Say,
    SearchChats,
    SetSidebarState,
    SetWorkspaceScope,
    TranscribeAudio,
    UnwatchRuntime,
    WatchRuntime,
    WebuiRequest,
)
from ._commands import command_in, command_reply
from ._forking import fork_session
from ._frame_reading import read_client_frame
from ._media import MediaFolder, files_from_media, media_limits
from ._rate_limit import RateLimit
from ._server_frames import (
    Attached,
    Deleted,
    Error,
    MessageAccepted,
    Pong,
    Ready,
    RuntimeSeen,
    ServerFrame,
    SidebarState,
    TranscriptionError,
    WebuiResponse,
    encode_frame,
)
from ._server_frames import (
    Chats as ChatsFrame,
)
from ._settings import GatewaySettings
from ._sidebar import Sidebar
from ._told import told
from ._wire import Wire, text_frame

__all__ = ["GOING_AWAY", "TOO_SLOW", "Connection", "Floor"]

_log = logging.getLogger("nanobot.gateway")

GOING_AWAY: Final = 1001
POLICY: Final = 1008
TOO_SLOW: Final = 4008
"""Close code of a client that did not keep up; the range is for applications."""

_OUTBOX: Final = 64
"""Answers that wait to be sent; past it nothing more is read from the client."""

_TURN_BYTES: Final = 64 * 1024
"""How much of one chat is sent before the next one of the same connection has its turn."""

_SEND_BYTES: Final = 128 * 1024
"""How much is handed to the kernel at once: a frame more or less does not change what that costs any more."""

_REFUSALS: Final = 100
"""Frames in a row that may be refused for coming too often, before the connection is closed."""

_BURST_S: Final = 3.0

_SENDING_BYTES: Final = 16 * 1024
"""Who sent that much instead of an answer to a ping is in the middle of a long message, and answers after it."""

_ONE_WORKSPACE: Final = (
    "the agent works in the folder that its configuration names (agents.defaults.workspace), in every chat: what confines"
    " its tools is not a client's to change. Start another gateway for another folder."
)
_NO_TRANSCRIPTION: Final = (
    "this gateway turns no speech into text. Attach the recording to a message as a file: it is put into the workspace,"
    " where a tool of the agent or an MCP server (tools.mcpServers) can transcribe it."
)

_IN_THREAD_FROM_CHARS: Final = 200_000
"""Decoding that much takes about a millisecond, as long as all other clients would have to wait."""


class Floor(Protocol):
    """What a connection needs of the gateway."""

    @property
    def bot(self) -> Nanobot: ...
    @property
    def chats(self) -> Chats: ...
    @property
    def settings(self) -> GatewaySettings: ...
    @property
    def media(self) -> MediaFolder: ...
    @property
    def sidebar(self) -> Sidebar: ...
    @property
    def draining(self) -> bool: ...

    def watch_runtime(self, connection: Connection) -> None: ...
    def unwatch_runtime(self, connection: Connection) -> None: ...
    def note_dropped(self) -> None: ...
    def tell_everyone(self, frame: ServerFrame) -> None: ...


class _Leave(Exception):
    """Close the connection, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Subscription:
    """A chat that this connection is attached to, and the last frame it was sent."""

    __slots__ = ("chat", "cursor")

    def __init__(self, chat: Chat, cursor: int) -> None:
        self.chat = chat
        self.cursor = cursor


class Connection:
    """Serves one client until it leaves or is dropped. Belongs to the gateway's Trio run.

    Nothing is queued for a client but answers to its own frames: of each chat it has a cursor into the log that all
    share, so that one which is slow costs nobody anything, gets consecutive deltas joined into one frame, and is dropped
    with a reason when the log has forgotten what it would need next.
    """

    def __init__(
        self,
        websocket: WebSocketConnection,
        wire: Wire,
        floor: Floor,
        client_id: str,
        *,
        now: float,
    ) -> None:
        settings = floor.settings
        self.client_id = client_id or f"anon-{secrets.token_hex(6)}"
        self._websocket = websocket
        self._wire = wire
        self._floor = floor
        self._settings = settings
        self._rate = RateLimit(
            settings.frames_per_s, max(1, round(_BURST_S * settings.frames_per_s)), now=now
        )
        self._refused = 0
        self._chats: dict[str, _Subscription] = {}
        self._temporary: dict[str, Chat] = {}
        self._news: dict[str, None] = {}  # insertion-ordered: each chat has its turn
        self._outbox: deque[ServerFrame] = deque()
        self._runtime_seen: RuntimeSeen | None = None
        self._own_chat = ""
        self._wake = TrioNotify()
        self._room = TrioNotify()
        self._farewell: _Leave | None = None

    def chat_has_news(self, chat_id: str) -> None:
        """The log of a chat has grown."""
        self._news[chat_id] = None
        self._wake.notify()

    def show_runtime(self, seen: RuntimeSeen) -> None:
        """Send this unless a newer one comes first."""
        self._runtime_seen = seen
        self._wake.notify()

    def leave(self, code: int, reason: str) -> None:
        """Close the connection once what is in its outbox has been sent."""
        if self._farewell is None:
            self._farewell = _Leave(code, reason)
        self._wake.notify()

    async def serve(self, own_chat: str) -> None:
        """Greet the client and follow it until one side leaves. Never raises because of what a client does."""
        self._own_chat = own_chat
        chat = self._floor.chats.get(own_chat)
        self._outbox.append(
            Ready(
                own_chat,
                self.client_id,
                media_limits(self._settings.max_frame_chars),
                model=self._floor.bot.runtime.model,
                server=chat.epoch,
            )
        )
        self._subscribe(chat, chat.log.last)
        if self._floor.sidebar.state:
            self._outbox.append(SidebarState(self._floor.sidebar.state))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self._ping)
                await self._write()
                nursery.cancel_scope.cancel()
        except* (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except* _Leave as leaving:
            await self._close(_first(leaving))
        finally:
            self._floor.unwatch_runtime(self)
            for subscription in self._chats.values():
                subscription.chat.watchers.pop(self, None)
            self._chats.clear()
            if self._temporary:
                with trio.CancelScope(
                    shield=True
                ):  # files are removed, which is no wait for anybody
                    for chat_id in (*self._temporary,):
                        await self._discard(chat_id)

    async def _write(self) -> None:
        """Send what there is, many frames at a time, until the client is to be sent away."""
        while True:
            frames = self._gather()
            if frames:
                await self._send(frames)
                if self._outbox or self._news:  # others have their turn before the rest
                    await trio.lowlevel.checkpoint()
            elif self._farewell is not None:
                raise self._farewell
            else:
                await self._wake.notified()

    def _gather(self) -> bytearray:
        """The frames that are to be sent now: answers first, then each chat in its turn, then the runtime's state. About
        as many as the kernel takes at once; what is left comes with the next.
        """
        frames = bytearray()
        while self._outbox and len(frames) < _SEND_BYTES:
            frames += text_frame(encode_frame(self._outbox.popleft()))
            self._room.notify()
        while self._news and len(frames) < _SEND_BYTES:
            self._gather_news(frames)
        if self._runtime_seen is not None and not frames and self._farewell is None:
            frames += text_frame(encode_frame(self._runtime_seen))
            self._runtime_seen = None
        return frames

    def _gather_news(self, frames: bytearray) -> None:
        """The next chat that has news has its turn."""
        chat_id = next(iter(self._news))
        del self._news[chat_id]
        subscription = self._chats.get(chat_id)
        if subscription is None:
            return
        log = subscription.chat.log
        try:
            news = log.after(subscription.cursor, limit_bytes=_TURN_BYTES)
        except Behind:
            raise self._too_slow("it did not keep up with its chats") from None
        for frame in news:
            frames += text_frame(encode_frame(frame))
            subscription.cursor = frame.seq
        if subscription.cursor < log.last:
            self._news[chat_id] = None

    async def _send(self, frames: bytearray) -> None:
        if self._websocket.closed:  # nothing may follow the frame that closes
            raise trio.ClosedResourceError
        timeout_s = self._settings.send_timeout_s
        if not await self._wire.send_frames(frames, timeout_s=timeout_s):
            # A frame was cut in the middle: nothing can follow it, not even the reason.
            self._floor.note_dropped()
            _log.warning(
                "client %s took nothing for %g s and was dropped", self.client_id, timeout_s
            )
            await trio.aclose_forcefully(self._wire)
            raise trio.ClosedResourceError

    def _too_slow(self, what: str) -> _Leave:
        self._floor.note_dropped()
        _log.warning("client %s was dropped: %s", self.client_id, what)
        return _Leave(TOO_SLOW, f"too slow: {what}; connect again to go on")

    async def _ping(self) -> None:
        while True:
            await trio.sleep(self._settings.ping_interval_s)
            received = self._wire.received
            with trio.move_on_after(self._settings.ping_timeout_s) as waiting:
                await self._websocket.ping()
            if waiting.cancelled_caught and self._wire.received - received < _SENDING_BYTES:
                if self._wire.waiting:
                    continue  # nobody reads what it has answered
                await trio.aclose_forcefully(self._wire)
                raise trio.ClosedResourceError

    async def _read(self) -> None:
        while self._farewell is None:
            message = await self._websocket.get_message()
            while len(self._outbox) >= _OUTBOX:
                await self._room.notified()
            try:
                await self._take(message)
            except FrameError as error:
                turn_id = error.turn_id or None
                self._answer(Error(error.detail, error.reason, error.chat_id, turn_id))
            except NanobotError as error:
                self._answer(Error(told(error), "unavailable"))
            del message
            self._wire.message_done()

    async def _take(self, message: str | bytes) -> None:
        wait_s = self._rate.take(trio.current_time())
        if wait_s:
            self._refused += 1
            if self._refused == _REFUSALS:
                self.leave(POLICY, "too many frames")
            self._answer(
                Error(
                    "frames come too often; this one was not followed",
                    "rate_limited",
                    retry_after_s=round(wait_s, 3),
                )
            )
            return
        self._refused = 0
        if isinstance(message, bytes):
            raise FrameError("bad_frame", "frames are text, not binary")
        if len(message) < _IN_THREAD_FROM_CHARS:
            frame = read_client_frame(message)
        else:
            frame = await trio.to_thread.run_sync(read_client_frame, message)
        await self._follow(frame)

    async def _follow(self, frame: ClientFrame) -> None:
        chats = self._floor.chats
        match frame:
            case Say():
                await self._say(frame)
            case NewTemporaryChat():
                chat_id = new_chat_id()
                self._check_room(chat_id)
                chat = self._temporary[chat_id] = chats.make_temporary(chat_id, self)
                self._attach(chat, chat.attach_here())
            case DiscardTemporaryChat(chat_id=chat_id):
                if chat_id not in self._temporary:
                    raise FrameError("no_such_chat", "there is no such temporary chat", chat_id)
                await self._discard(chat_id)
                self._answer(Deleted(chat_id))
            case ForkChat():
                chat_id = new_chat_id()
                await trio.to_thread.run_sync(fork_session, self._floor.bot, frame, chat_id)
                chat = chats.get(chat_id)
                self._attach(chat, chat.attach_here())
            case SetSidebarState(state=state):
                await self._keep_sidebar(state)
            case WebuiRequest():
                await self._request(frame)
            case SetWorkspaceScope(chat_id=chat_id):
                raise FrameError("workspace_scope_rejected", _ONE_WORKSPACE, chat_id)
            case TranscribeAudio(request_id=request_id):
                self._answer(TranscriptionError(request_id, _NO_TRANSCRIPTION))
            case NewChat():
                chat = chats.get(new_chat_id())
                self._attach(chat, chat.attach_here())
            case Attach():
                await self._attach_again(frame)
            case Detach(chat_id=chat_id):
                self._detach(chat_id)
            case Cancel(turn_id=turn_id):
                self._chat(frame.chat_id).cancel(turn_id)
            case Approval(request_id=request_id, decision=decision, reason=reason):
                if not self._chat(frame.chat_id).decide(request_id, decision, reason):
                    await self._decide_parked(frame)
            case Resume(chat_id=chat_id):
                self._chat_to_go_on(chat_id).go_on(client_id=self.client_id)
            case ListChats(limit=limit):
                self._answer(ChatsFrame(await listed_rows(self._floor.bot, chats, limit)))
            case SearchChats(query=query, limit=limit):
                rows = await found_rows(self._floor.bot, chats, query, limit)
                self._answer(ChatsFrame(rows, query))
            case DeleteChat(chat_id=chat_id):
                await self._delete(chat_id)
            case WatchRuntime():
                self._floor.watch_runtime(self)
            case UnwatchRuntime():
                self._floor.unwatch_runtime(self)
            case Ping():
                self._answer(Pong())
            case _:
                assert_never(frame)

    def _chat(self, chat_id: str) -> Chat:
        """A chat that this client may use; "" is its own.

        Raises:
          FrameError: It is another connection's temporary one, of which nobody else may know.
        """
        chat = self._floor.chats.get(chat_id or self._own_chat)
        if chat.owner not in (None, self):
            raise FrameError("no_such_chat", "there is no such chat", chat_id)
        return chat

    async def _attach_again(self, frame: Attach) -> None:
        while True:
            chat = self._chat(frame.chat_id)
            attached = chat.resume(frame.epoch, frame.after) if frame.epoch else None
            if attached is None and frame.history and not chat.temporary:
                attached = await chat.attach_with_history(frame.history)
                if self._floor.chats.find(chat.chat_id) is not chat:
                    continue  # it was deleted or forgotten meanwhile: nobody would tell of it any more
            self._attach(chat, attached or chat.attach_here())
            return

    async def _say(self, frame: Say) -> None:
        try:
            chat = self._chat(frame.chat_id)
            if not (frame.turn_id and chat.knows(frame.turn_id)):
                await self._take_in(frame, chat)
        except FrameError as error:
            error.chat_id, error.turn_id = error.chat_id or frame.chat_id, frame.turn_id
            raise
        if frame.turn_id:
            self._answer(MessageAccepted(chat.chat_id, frame.turn_id))

    async def _take_in(self, frame: Say, chat: Chat) -> None:
        self._check_may_begin(chat)
        paths: tuple[str, ...] = ()
        if frame.media:
            files = await trio.to_thread.run_sync(files_from_media, frame.media, chat.chat_id)
            keep = partial(self._floor.media.keep, temporary=chat.temporary)
            paths = await trio.to_thread.run_sync(keep, files, chat.chat_id)
        command = command_in(frame.content)
        answer = "" if command is None else await command_reply(command, chat, self._floor.bot)
        chat = self._chat(frame.chat_id)  # anew: it may have been deleted or forgotten meanwhile
        self._attach_if_new(chat)
        names = {"turn_id": frame.turn_id, "client_id": self.client_id}
        if command is not None:
            chat.reply(frame.content, answer, **names)
        else:
            chat.say(frame.content, media=paths, **names)

    async def _decide_parked(self, frame: Approval) -> None:
        chat = self._chat_to_go_on(frame.chat_id)
        try:
            await chat.decide_parked(
                frame.request_id, frame.decision, frame.reason, client_id=self.client_id
            )
        except FrameError as error:
            error.chat_id = frame.chat_id or None
            raise

    def _chat_to_go_on(self, chat_id: str) -> Chat:
        """A chat whose turn may go on, with this client looking on.

        Raises:
          FrameError: It may not.
        """
        chat = self._chat(chat_id)
        if chat.temporary:
            raise FrameError("no_such_request", "a temporary chat keeps no turn", chat.chat_id)
        self._check_may_begin(chat)
        self._attach_if_new(chat)
        return chat

    def _check_may_begin(self, chat: Chat) -> None:
        """Check that something may begin in a chat for this client.

        Raises:
          FrameError: It may not.
        """
        if self._floor.draining:
            raise FrameError("draining", "the server is shutting down", chat.chat_id)
        self._check_room(chat.chat_id)

    def _attach_if_new(self, chat: Chat) -> None:
        if chat.chat_id not in self._chats:
            self._attach(chat, chat.attach_here())

    async def _keep_sidebar(self, state: dict[str, Any]) -> None:
        await trio.to_thread.run_sync(self._floor.sidebar.keep, state)
        self._floor.tell_everyone(SidebarState(state))

    async def _request(self, frame: WebuiRequest) -> None:
        state = frame.payload.get("state")
        if frame.action != "sidebar.update" or not isinstance(state, dict):
            detail = {"status": 404, "message": "there is no such action here"}
            self._answer(WebuiResponse(frame.request_id, ok=False, error=detail))
            return
        await self._keep_sidebar(state)
        self._answer(WebuiResponse(frame.request_id, ok=True, result=state))

    async def _discard(self, chat_id: str) -> None:
        """End a temporary chat of this connection; nothing is left of it."""
        chat = self._temporary.pop(chat_id)
        chat.cancel()
        self._detach(chat_id)
        self._floor.chats.drop(chat_id)
        await trio.to_thread.run_sync(self._floor.media.forget, chat_id)

    async def _delete(self, chat_id: str) -> None:
        chat = self._chat(chat_id) if self._floor.chats.find(chat_id) is not None else None
        if chat is not None:
            chat.cancel()
        await delete_session(self._floor.bot, chat_id)
        if chat is not None:
            for watcher in [*chat.watchers]:
                if isinstance(watcher, Connection):
                    watcher.chat_is_gone(chat_id)
            if self._floor.chats.find(chat_id) is chat:  # not one that was begun meanwhile
                self._floor.chats.drop(chat_id)
        if chat is None or chat_id not in self._chats:
            self._answer(Deleted(chat_id))

    def tell(self, frame: ServerFrame) -> None:
        """Send a frame that answers nothing. A client with a full outbox goes without: it is behind anyway."""
        if len(self._outbox) < _OUTBOX:
            self._answer(frame)

    def chat_is_gone(self, chat_id: str) -> None:
        """Somebody deleted a chat that this connection is attached to."""
        self._detach(chat_id)
        self._answer(Deleted(chat_id))

    def _attach(self, chat: Chat, attached: Attached) -> None:
        """Send the frames of a chat from here on. Its answer is sent before them."""
        if chat.temporary:
            attached = replace(attached, temporary=True)
        self._check_room(chat.chat_id)
        self._answer(attached)
        self._subscribe(chat, attached.seq)

    def _check_room(self, chat_id: str) -> None:
        """Refuse one chat more than a connection may be attached to.

        Raises:
          FrameError: It would be.
        """
        attached_to = len(self._chats)
        if chat_id not in self._chats and attached_to >= self._settings.max_chats_per_connection:
            raise FrameError(
                "too_many_chats",
                f"a connection may be attached to {attached_to} chats; detach from one",
                chat_id,
            )

    def _subscribe(self, chat: Chat, cursor: int) -> None:
        self._detach(chat.chat_id)
        self._chats[chat.chat_id] = _Subscription(chat, cursor)
        chat.watchers[self] = None
        if cursor < chat.log.last:
            self.chat_has_news(chat.chat_id)

    def _detach(self, chat_id: str) -> None:
        subscription = self._chats.pop(chat_id, None)
        if subscription is not None:
            subscription.chat.watchers.pop(self, None)

    def _answer(self, frame: ServerFrame) -> None:
        self._outbox.append(frame)
        self._wake.notify()

    async def _close(self, leaving: _Leave) -> None:
        with trio.move_on_after(_CLOSE_S, shield=True):
            await self._websocket.aclose(leaving.code, leaving.reason[:100])


_CLOSE_S: Final = 2.0
"""How long a client has to take the reason why it is closed, and answer."""


def new_chat_id() -> str:
    """A name for a chat that nobody can guess."""
    return secrets.token_hex(12)


def _first(group: BaseExceptionGroup[_Leave]) -> _Leave:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group is never empty")
