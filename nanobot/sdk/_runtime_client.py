"""`bot.runtime`: what a bot tells about itself, and upkeep of its sessions."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import trio

from nanobot.errors import BotClosed, InvalidArgument, NanobotError
from nanobot.providers._select import ModelSelection
from nanobot.runtime import RuntimeStatistics, TurnMaker
from nanobot.sessions import SessionSnapshot, SessionStore, snapshot_of
from nanobot.tools import Toolset

from ._session_work import SessionWork

__all__ = ["RuntimeClient"]

_log = logging.getLogger("nanobot.sdk")

_ANSWER_WITHIN_S = 5.0
"""How long a store may take for one row: whoever asks whether we are ready gives up himself soon after."""


class RuntimeClient:
    """The runtime of a bot. Made by `Nanobot`."""

    def __init__(
        self,
        work: SessionWork,
        selection: ModelSelection,
        workspace: Path,
        store: SessionStore,
        statistics: Callable[[], RuntimeStatistics],
        *,
        presets: tuple[str, ...],
        idle_compact_after_minutes: float,
    ) -> None:
        self._work = work
        self._selection = selection
        self._workspace = workspace
        self._idle_s = 60.0 * idle_compact_after_minutes
        self._statistics = statistics
        self._presets = presets
        self._store = store
        self._looks = trio.CapacityLimiter(
            1
        )  # a store that hangs holds one thread, and not one for each look

    @property
    def presets(self) -> tuple[str, ...]:
        """The names that a run's `model_preset` may be; `default` is what `agents.defaults` says of the model."""
        return self._presets

    @property
    def model(self) -> str:
        """The bot's model, as configured. Overrides for single runs never change it."""
        return self._selection.display_model

    @property
    def workspace(self) -> Path:
        """The folder that tools work in, absolute."""
        return self._workspace

    @property
    def notice(self) -> str:
        """What the user should know about the choice of model, or ""."""
        return self._selection.notice

    def statistics(self) -> RuntimeStatistics:
        """Return what is alive right now, and what has been done so far; an immutable value, to be polled.

        A plain call, from any thread and any event loop, that waits for nobody; it takes about 5 µs for each live run. In the
        Trio run where the bot lives it is one moment; seen from other threads its parts may be microseconds apart. A bot
        that nothing was asked of yet, and one that was closed, has no sessions, runs and connections; its totals stay.
        """
        return self._statistics()

    async def problem(self) -> str:
        """Say what keeps a run from beginning now, for those who watch a server; "" if nothing does.

        It is one of "the bot is closed", "the store cannot be used" and "the model cannot be used": no address, path or key,
        so that it may be told to anybody. The log has the rest. One row is read from the store, which has 5 s for it; no
        model service is asked.
        """
        try:
            return await self._work.look(self._problem)
        except BotClosed:
            return "the bot is closed"

    async def _problem(self, maker: TurnMaker) -> str:
        try:
            maker.providers.provider(self._selection)
        except NanobotError as error:
            _log.warning("the model cannot be used: %s", error)
            return "the model cannot be used"
        look = partial(self._store.list_sessions, limit=1)
        try:
            with trio.fail_after(_ANSWER_WITHIN_S):
                await trio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=self._looks)
        except (NanobotError, trio.TooSlowError) as error:
            _log.warning("the store cannot be used: %s", str(error) or "it does not answer")
            return "the store cannot be used"
        return ""

    async def connect(self) -> Toolset:
        """Start the MCP servers, if nothing has yet, and return the tools that a run would now offer, as `bot.tools` does.

        A first run does this by itself; this is for showing the tools before, and for having the servers up. It waits for
        each server as a first run would, until it has listed its tools or failed to, but no longer than its `toolTimeout`.
        One that is slower or down takes part once it is there; called again, this waits for nothing.

        Raises:
          BotClosed: The bot was closed.

        Cancellation: the servers go on starting.
        """
        return await self._work.do(_a_key(), _connect)

    def connect_sync(self) -> Toolset:
        """Blocking `connect`, for programs without an event loop."""
        return self._work.do_sync(_a_key(), _connect, name="bot.runtime.connect_sync")

    async def compact_session(self, session_key: str) -> SessionSnapshot:
        """Summarize the older part of a session, if the session no longer fits what the model can read.

        Runs do this by themselves when they must; this is for doing it beforehand, as after a long `ingest`. A session
        that fits is left as it is, and one that does not exist is not created. The messages stay stored; from now on the
        model is shown the summary in their place, and after it the latest turns as they are. A transcript of any length
        is summarized in pieces that fit; nothing is cut.

        Returns:
          The session. Its `compaction` has the summary.

        Raises:
          ProviderError: The model failed. Nothing was changed.
          StoreError: The session could not be read or written; `SessionGone` if it was cleared or deleted meanwhile.
          UsageError: Prompt, tools and answer leave no room for history in the model's window.
          BotClosed: The bot was closed.
          NestedRunRefused: Called inside a run on the same session.

        Cancellation: nothing is changed.
        """
        return snapshot_of(
            await self._work.do(
                session_key, lambda maker: maker.compact_session(session_key, self._selection)
            )
        )

    def compact_session_sync(self, session_key: str) -> SessionSnapshot:
        """Blocking `compact_session`, for programs without an event loop."""
        return snapshot_of(
            self._work.do_sync(
                session_key,
                lambda maker: maker.compact_session(session_key, self._selection),
                name="bot.runtime.compact_session_sync",
            )
        )

    async def compact_idle_session(self, session_key: str, max_suffix: int = 8) -> str:
        """Summarize all of a session but its latest messages, whether or not it would fit, and return the summary.

        For sessions that nobody has used for a while. Everything else is as for `compact_session`.

        Args:
          session_key: The session.
          max_suffix: At most so many of the latest messages stay as they are: from a user's message on, or, if the last
            turn alone is longer, from an answer of the model on.

        Returns:
          The summary of all that is not shown as it is, that of earlier compactions included; "" if there was nothing to
          summarize, because no more messages than `max_suffix` have come since the last time.

        Raises:
          InvalidArgument: `max_suffix` is negative. Otherwise as `compact_session`.
        """
        return await self._work.do(session_key, self._idle(session_key, max_suffix))

    async def compact_while_idle(self, max_suffix: int = 8) -> None:
        """Compact every session that has been idle for `agents.defaults.idleCompactAfterMinutes`; for programs that run on.

        So the next turn of a long conversation starts at once, instead of with a compaction. Start it in a task of its own:

            nursery.start_soon(bot.runtime.compact_while_idle)      # Trio
            task = asyncio.create_task(bot.runtime.compact_while_idle())

        Sessions that runs of this bot use from now on are watched. Each is compacted once, as by `compact_idle_session`, and
        again after it was used again; one whose compaction fails is left as it is, and that is logged. They come one after
        the other, so that at most one request for a summary is out.

        Returns:
          When the bot is closed, or the loop that it lives in has ended; at once if the setting is 0.

        Raises:
          InvalidArgument: `max_suffix` is negative.
          BotClosed: The bot was closed before.

        Cancellation: ends it; what was being compacted stays as it is.
        """
        _check_suffix(max_suffix)
        if self._idle_s:
            await self._work.on_each_idle(
                self._idle_s,
                lambda maker, key: maker.compact_idle_session(key, self._selection, max_suffix),
            )

    def compact_idle_session_sync(self, session_key: str, max_suffix: int = 8) -> str:
        """Blocking `compact_idle_session`, for programs without an event loop."""
        return self._work.do_sync(
            session_key,
            self._idle(session_key, max_suffix),
            name="bot.runtime.compact_idle_session_sync",
        )

    def _idle(self, session_key: str, max_suffix: int) -> Callable[[TurnMaker], Awaitable[str]]:
        _check_suffix(max_suffix)
        return lambda maker: maker.compact_idle_session(session_key, self._selection, max_suffix)


async def _connect(maker: TurnMaker) -> Toolset:
    return await maker.tools.ready((), math.inf)


def _a_key() -> str:
    """The place of a turn that no session's turns have to wait for."""
    return f"nanobot:connect:{uuid4().hex}"


def _check_suffix(max_suffix: object) -> None:
    if not isinstance(max_suffix, int) or max_suffix < 0:
        raise InvalidArgument(f"max_suffix must be a number of messages >= 0, not {max_suffix!r}")
