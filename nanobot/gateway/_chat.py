"""One chat: it runs its turns one after the other, whoever looks on, and tells everyone who is attached."""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

import trio

from nanobot import Nanobot, RunStream
from nanobot.errors import BotClosed, NanobotError
from nanobot.sessions import SessionSnapshot
from nanobot.tools import ApprovalRequest, Approved, Denied, Park

from ._chat_log import ChatLog
from ._client_frames import FrameError
from ._history import file_name, latest_messages, latest_turns, this_turn, without_turn
from ._parked import decide_parked, facts_of_parked
from ._server_frames import (
    ApprovalEnd,
    ApprovalRequested,
    Attached,
    ChatFrame,
    Decided,
    Message,
    PendingTurn,
    TurnEnd,
    TurnResumed,
    UserMessage,
)
from ._settings import GatewaySettings
from ._told import told
from ._translate import TurnTranslator

__all__ = ["Chat", "Watcher", "session_key"]

_log = logging.getLogger("nanobot.gateway")

Spawn: TypeAlias = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task that lives as long as the gateway."""

_SEEN: Final = 100
"""Names of turns that are known again: a client that was cut off sends again what it had just sent."""

_LOOKS: Final = 5
"""How often a history is read again because a turn began or ended meanwhile."""

_PRESET: Final = "model_preset"
"""Where a session's metadata has the preset that was chosen for its chat."""

_REMEMBERED: Final = 400
"""Messages of a temporary chat that are kept, in memory: about as many as a model is shown."""


def session_key(chat_id: str) -> str:
    """The session that keeps a chat."""
    return f"websocket:{chat_id}"


class Watcher(Protocol):
    """Somebody who is attached to a chat."""

    def chat_has_news(self, chat_id: str) -> None:
        """The chat's log has grown. Must neither wait nor fail."""
        ...


class _Turn:
    """One message and its answer, from being taken in to its end; or what is left of them, if it `resumes`."""

    __slots__ = (
        "began_after",
        "cancelled",
        "client_id",
        "kept",
        "media",
        "resumes",
        "run",
        "text",
        "translator",
        "turn_id",
    )

    def __init__(
        self,
        turn_id: str,
        text: str,
        client_id: str,
        media: Sequence[str] = (),
        *,
        resumes: bool = False,
    ) -> None:
        self.turn_id = turn_id
        self.text = text
        self.client_id = client_id
        self.media = media
        self.resumes = resumes
        self.cancelled = False
        self.began_after = 0
        self.kept = 0  # messages that were there before it went on
        self.run: RunStream | None = None
        self.translator: TurnTranslator | None = None


class _Undecided:
    """A tool call that waits for somebody's decision."""

    __slots__ = ("decided", "decision", "reason")

    def __init__(self) -> None:
        self.decided = trio.Event()
        self.decision: Decided = "denied"
        self.reason = ""


def _uncounted(_by: int) -> None:
    """For chats that were forgotten."""


class Chat:
    """A chat that somebody has used since the gateway started. Belongs to the gateway's Trio run.

    Args:
      chat_id: Its name.
      bot: Who answers.
      settings: The limits.
      spawn: Starts a task that lives as long as the gateway.
      on_growth: Told by how many bytes the log grew or shrank.
      owner: Who alone may use the chat, of which nothing is stored then; None is a chat like others.

    Attributes:
      epoch: The name of this numbering of frames; another one after a restart.
      log: Its latest frames.
      watchers: Who is told of news.
    """

    def __init__(
        self,
        chat_id: str,
        *,
        bot: Nanobot,
        settings: GatewaySettings,
        spawn: Spawn,
        on_growth: Callable[[int], None],
        owner: object = None,
    ) -> None:
        self.chat_id = chat_id
        self.owner = owner
        self.epoch = secrets.token_hex(8)
        self.log = ChatLog(settings.replay_bytes)
        self.watchers: dict[Watcher, None] = {}
        self._bot = bot
        self._settings = settings
        self._spawn = spawn
        self._on_growth = on_growth
        self._queue: deque[_Turn] = deque()
        self._current: _Turn | None = None
        self._undecided: dict[str, _Undecided] = {}
        self._seen: dict[str, None] = {}
        self._working = False
        self._changes = 0
        self._transcript: list[dict[str, Any]] = []  # of a temporary chat
        self._preset: str | None = None  # None until it was looked for

    @property
    def temporary(self) -> bool:
        """Whether nothing of it is stored."""
        return self.owner is not None

    @property
    def busy(self) -> bool:
        """Whether a turn is under way or waits."""
        return self._working

    def say(self, text: str, *, turn_id: str, client_id: str, media: Sequence[str] = ()) -> None:
        """Take in a user's message with the files at these paths; it is answered after those before it.

        A `turn_id` that was seen lately is the same message once more, from a client that was cut off before it heard
        that we have it, and is not taken in twice.

        Raises:
          FrameError: Too many wait already.
        """
        if turn_id and turn_id in self._seen:
            return
        if len(self._queue) >= self._settings.max_queued:
            raise FrameError(
                "queue_full", f"{len(self._queue)} messages wait in this chat already", self.chat_id
            )
        turn = _Turn(turn_id or secrets.token_hex(8), text, client_id, media)
        self._note_seen(turn.turn_id)
        self._queue.append(turn)
        names = [file_name(path) for path in media]
        self._emit(
            UserMessage(self.chat_id, turn.turn_id, text=text, client_id=client_id, media=names)
        )
        self._begin_work()

    async def decide_parked(
        self, approval_id: str, decision: Decided, reason: str, *, client_id: str
    ) -> None:
        """Decide about what the parked turn of this chat waits for, and go on with it.

        Raises:
          FrameError: It does not wait for this.
          StoreError: The session cannot be read or written.
        """
        key = session_key(self.chat_id)
        await trio.to_thread.run_sync(decide_parked, self._bot, key, approval_id, decision, reason)
        self.go_on(client_id=client_id, request_id=approval_id, decision=decision)

    def go_on(
        self, *, client_id: str, request_id: str = "", decision: Decided | None = None
    ) -> None:
        """Go on with a turn that was parked or interrupted, unless that is about to happen. A message that comes before it gives
        it up.
        """
        if any(turn.resumes for turn in self._turns()):
            return
        turn = _Turn(secrets.token_hex(8), "", client_id, resumes=True)
        self._queue.append(turn)
        self._emit(
            TurnResumed(
                self.chat_id,
                turn.turn_id,
                request_id=request_id,
                decision=decision,
                client_id=client_id,
            )
        )
        self._begin_work()

    def _begin_work(self) -> None:
        if not self._working:
            self._working = True
            self._spawn(self._work)

    def _turns(self) -> list[_Turn]:
        """What has not ended, in order."""
        return [*([self._current] if self._current is not None else []), *self._queue]

    def knows(self, turn_id: str) -> bool:
        """Whether a message of that turn was taken in lately."""
        return turn_id in self._seen

    def reply(self, text: str, answer: str, *, turn_id: str, client_id: str) -> None:
        """Show a message and its answer, both of which are no part of the conversation: a command's."""
        turn_id = turn_id or secrets.token_hex(8)
        self._note_seen(turn_id)
        self._emit(UserMessage(self.chat_id, turn_id, text=text, client_id=client_id))
        self._emit(Message(self.chat_id, turn_id, text=answer))
        self._emit(TurnEnd(self.chat_id, turn_id, stop_reason="command", latency_ms=0))

    def forget(self) -> None:
        """Begin anew, as far as this chat is in memory."""
        self._transcript.clear()
        self._preset = ""

    async def messages(self) -> list[dict[str, Any]]:
        """What was said, oldest first.

        Raises:
          StoreError: The session cannot be read.
        """
        if self.temporary:
            return [*self._transcript]
        snapshot = await self._stored()
        return [] if snapshot is None else snapshot.messages

    async def preset(self) -> str:
        """The preset that its turns use; "" is the model of the configuration.

        Raises:
          StoreError: The session cannot be read.
        """
        if self._preset is None:
            snapshot = None if self.temporary else await self._stored()
            kept = None if snapshot is None else snapshot.metadata.get(_PRESET)
            if self._preset is None:  # nobody has chosen one meanwhile
                self._preset = kept if isinstance(kept, str) else ""
        return self._preset

    def use_preset(self, name: str) -> None:
        """Use a preset from the next turn on. It is kept with the session, behind the turn that is under way."""
        self._preset = name
        if not self.temporary:
            self._spawn(partial(self._keep_preset, name))

    async def _keep_preset(self, name: str) -> None:
        try:
            await self._bot.sessions.ingest(session_key(self.chat_id), [], metadata={_PRESET: name})
        except NanobotError as error:
            _log.warning("the preset of chat %s is not kept: %s", self.chat_id, error)

    async def _stored(self) -> SessionSnapshot | None:
        return await trio.to_thread.run_sync(self._bot.sessions.get, session_key(self.chat_id))

    def _stored_and_waiting(self) -> tuple[SessionSnapshot | None, dict[str, Any] | None]:
        """The session, and what its parked turn waits for."""
        key = session_key(self.chat_id)
        return self._bot.sessions.get(key), facts_of_parked(self._bot, key)

    def _note_seen(self, turn_id: str) -> None:
        self._seen[turn_id] = None
        if len(self._seen) > _SEEN:
            del self._seen[next(iter(self._seen))]

    def cancel(self, turn_id: str = "") -> None:
        """End one turn, or all of them, also those that wait. Returns at once; `turn_end` tells when it is done."""
        for turn in reversed(self._turns()):
            if turn_id in ("", turn.turn_id) and not turn.cancelled:
                turn.cancelled = True
                if turn.run is not None:
                    self._spawn(turn.run.cancel)

    def decide(self, request_id: str, decision: Decided, reason: str) -> bool:
        """Decide on a tool call that waits; returns whether it did."""
        undecided = self._undecided.pop(request_id, None)
        if undecided is None:
            return False
        undecided.decision = decision
        undecided.reason = reason
        undecided.decided.set()
        return True

    def resume(self, epoch: str, after: int) -> Attached | None:
        """What to tell a client that has the frames up to `after`; None if the rest of them cannot be had."""
        if epoch != self.epoch or not self.log.covers(after):
            return None
        return Attached(self.chat_id, self.epoch, after, resumed=True, running=self.busy)

    def attach_here(self) -> Attached:
        """What to tell a client that wants to know what happens from now on."""
        return Attached(self.chat_id, self.epoch, self.log.last, resumed=False, running=self.busy)

    async def attach_with_history(self, limit: int) -> Attached:
        """What to tell a client that knows nothing: the history, the turns that are not in it, and where their frames begin.

        Raises:
          StoreError: The session cannot be read.
        """
        for _ in range(_LOOKS):
            changes = self._changes
            snapshot, approval = await trio.to_thread.run_sync(self._stored_and_waiting)
            if changes == self._changes:
                break
        messages = [] if snapshot is None else snapshot.messages
        # No await from here on: what is told is one moment.
        turns = self._turns()
        seq = self.log.last
        if (current := self._current) is not None:
            seq = max(current.began_after, self.log.oldest)
            if current.resumes:
                messages = messages[: current.kept]
            elif current.translator is not None and current.translator.started:
                messages = [*without_turn(messages, current.text)]
        return Attached(
            self.chat_id,
            self.epoch,
            seq,
            resumed=False,
            running=self.busy,
            truncated=self._current is not None and seq > self._current.began_after,
            messages=latest_messages(messages, limit),
            turns=[
                PendingTurn(turn.turn_id, turn.text, [file_name(path) for path in turn.media])
                for turn in turns
            ],
            approval=None if any(turn.resumes for turn in turns) else approval,
        )

    def retire(self) -> None:
        """Nobody counts this chat's frames any more."""
        self._on_growth = _uncounted

    async def _work(self) -> None:
        try:
            while self._queue:
                turn = self._current = self._queue.popleft()
                self._changes += 1
                await self._answer(turn)
        finally:
            self._current = None
            self._working = False
            self._changes += 1

    async def _answer(self, turn: _Turn) -> None:
        turn.began_after = self.log.last
        translator = turn.translator = TurnTranslator(
            self.chat_id, turn.turn_id, trio.current_time()
        )
        reason, detail = "cancelled", ""
        try:
            if not turn.cancelled:
                await self._follow(turn, translator)
        except BotClosed:
            reason, detail = "error", "The server is shutting down."
        except NanobotError as error:
            reason, detail = "error", told(error)
        except Exception:  # noqa: BLE001 - a tool's, a hook's or our bug must end neither the chat nor the gateway
            _log.exception("a turn of chat %s failed", self.chat_id)
            reason, detail = "error", "The turn failed because of a bug; the server's log has it."
        finally:
            for frame in translator.end(reason, detail, trio.current_time()):
                self._emit(frame)

    async def _follow(self, turn: _Turn, translator: TurnTranslator) -> None:
        async with await self._started(turn) as run:
            turn.run = run
            if turn.cancelled:
                await run.cancel()
            async for event in run.stream_events():
                if self.temporary and event.result is not None:
                    said = [*self._transcript, *this_turn(event.result.messages, turn.text)]
                    self._transcript = latest_turns(said, _REMEMBERED)
                for frame in translator.frames(event, trio.current_time()):
                    self._emit(frame)

    async def _started(self, turn: _Turn) -> RunStream:
        if turn.resumes:
            snapshot = await self._stored()
            turn.kept = 0 if snapshot is None else len(snapshot.messages)
            return await self._bot.resume_streamed(
                session_key(self.chat_id), approver=self._approver(turn)
            )
        preset = await self.preset()
        return await self._bot.run_streamed(
            turn.text,
            session_key=session_key(self.chat_id),
            channel="websocket",
            chat_id=self.chat_id,
            sender_id=turn.client_id or "user",
            approver=self._approver(turn),
            media=turn.media,
            model_preset=preset or None,
            ephemeral=self.temporary,
            history=[*self._transcript] if self.temporary else None,
            join_deltas=True,
        )

    def _approver(
        self, turn: _Turn
    ) -> Callable[[ApprovalRequest], Awaitable[Approved | Denied | Park]]:
        async def approve(request: ApprovalRequest) -> Approved | Denied | Park:
            request_id = secrets.token_hex(8)
            undecided = self._undecided[request_id] = _Undecided()
            end: Any = "withdrawn"
            self._emit(
                ApprovalRequested(
                    self.chat_id,
                    turn.turn_id,
                    request_id=request_id,
                    call_id=f"{request.iteration}.{request.tool_call_id}",
                    name=request.name,
                    arguments=request.arguments,
                    description=request.description,
                )
            )
            try:
                with trio.move_on_after(self._settings.approval_timeout_s) as waiting:
                    await undecided.decided.wait()
                nobody = "parked" if self._settings.park and not self.temporary else "expired"
                end = nobody if waiting.cancelled_caught else undecided.decision
            finally:
                self._undecided.pop(request_id, None)
                self._emit(
                    ApprovalEnd(self.chat_id, turn.turn_id, request_id=request_id, decision=end)
                )
            if end == "approved":
                return Approved()
            if end == "parked":
                return Park()
            return Denied("Nobody decided in time." if end == "expired" else undecided.reason)

        return approve

    def _emit(self, frame: ChatFrame) -> None:
        grown = self.log.append(frame)
        for watcher in self.watchers:
            watcher.chat_has_news(self.chat_id)
        self._on_growth(grown)
