"""Compacting a session: what is left of its history is a summary and the latest messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import msgspec
import trio

from nanobot.agent import BudgetSpent, Outcome, Purse, Tally
from nanobot.context import (
    TextCounter,
    estimate_text,
    message_tokens,
)
from nanobot.errors import ProviderError, RequestRejected, StoreError, UsageError
from nanobot.memory import (
    HistoryLog,
    Room,
    Summarizer,
    SummaryFailed,
    overflows,
    suffix_start,
)
from nanobot.messages import RUNTIME_CONTEXT, Assembler, Message, UserMessage
from nanobot.providers import DeltaStream, ModelRequest, Provider
from nanobot.providers._select import ModelSelection
from nanobot.sessions import Compaction
from nanobot.telemetry import Telemetry

from ._history_room import HistoryRoom
from ._open_sessions import OpenSession

__all__ = ["Compactor"]

_log = logging.getLogger("nanobot.runtime")


class Compactor:
    """Compacts sessions for one model, in the place that a turn would have: whoever calls has the session open.

    Args:
      provider: Whom to ask for summaries.
      selection: The model that reads the history, and writes the summary.
      room: What its requests have room for of history.
      count: Counts the tokens of a text.
      history_log: Gets the notes of each compaction.
      tally: Counts what summaries cost.
      purse: What they may cost; None is no limit.
      telemetry: Who is told of compactions; None for nobody.
    """

    def __init__(
        self,
        provider: Provider,
        selection: ModelSelection,
        *,
        room: HistoryRoom,
        count: TextCounter,
        history_log: HistoryLog,
        tally: Tally,
        purse: Purse | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._room = room
        self._provider = provider
        self._selection = selection
        self._text_tokens = count
        self._history_log = history_log
        self._tally = tally
        self._purse = purse
        self._telemetry = telemetry

    async def before_turn(self, session: OpenSession) -> None:
        """Compact a session whose history no longer fits. If that fails, the turn goes on with what does fit."""
        history = session.history()
        if not self._room.is_outgrown(history):
            return
        try:
            await self.compact(session)
        except (ProviderError, StoreError) as error:
            _log.warning("session %.200r was not compacted: %s", session.key, error)
            if isinstance(error, SummaryFailed):
                session.view.unsummarizable = history.tokens

    async def compact(self, session: OpenSession) -> str:
        """Summarize what no longer fits; returns the summary, or "" if everything fits.

        Raises:
          ProviderError: No summary could be had. Nothing was changed.
          StoreError: It could not be stored. Nothing was changed.
          UsageError: The model's window has no room for any history.
        """
        if not overflows(session.history().tokens, self._necessary_room):
            return ""
        limit = self._necessary_room.suffix
        return await self._compact(session, lambda messages: (self._tokens(messages), limit))

    async def compact_all_but(self, session: OpenSession, max_suffix: int) -> str:
        """Summarize all but the last messages, `max_suffix` at most; returns the summary, or "" if there are no more.

        Raises: as `compact`.
        """
        return await self._compact(session, lambda messages: ([1] * len(messages), max_suffix))

    async def _compact(
        self,
        session: OpenSession,
        weigh: Callable[[Sequence[Message]], tuple[Sequence[int], int]],
    ) -> str:
        room = self._necessary_room
        if session.has_pending:
            await session.write()  # a summary can only cover what is stored
        record = await session.stored()
        if record is None:
            return ""
        messages = record.messages
        start = suffix_start(messages, *await self._weighed(weigh, messages))
        earlier = "" if record.compaction is None else record.compaction.summary
        if start == 0 and self._text_tokens(earlier) <= room.summary:
            return ""
        at_most = max(room.summary, room.history - sum(self._tokens(messages[start:])))
        with self._told(session.key, start, len(messages) - start):
            summary = await self._summarizer().summarize(
                messages[:start],
                earlier=earlier,
                limit_tokens=room.summary,
                at_most_tokens=at_most,
            )
            through = record.first_sequence + start - 1
            await session.compact(Compaction(through, summary.text), messages[start:])
        if summary.latest:
            await self._log(summary.latest, session.key)
        return summary.text

    def _told(self, key: str, summarized: int, kept: int) -> AbstractContextManager[object]:
        if self._telemetry is None:
            return nullcontext()
        return self._telemetry.span("compaction", session_key=key, summarized=summarized, kept=kept)

    async def _log(self, notes: str, key: str) -> None:
        """Note what was summarized for other sessions to find. The compaction stands also if that fails."""
        try:
            await trio.to_thread.run_sync(
                partial(self._history_log.append, notes, key, is_summary=True)
            )
        except StoreError as error:
            _log.warning("the summary of session %.200r is not in the history: %s", key, error)

    @property
    def _necessary_room(self) -> Room:
        if self._room.room is None:
            raise UsageError(
                f"the context window of {self._selection.display_model} has no room for history, beside"
                " prompt, tools and answer. Configure a larger contextWindowTokens, or a smaller maxTokens."
            )
        return self._room.room

    def _summarizer(self) -> Summarizer:
        selection = self._selection
        return Summarizer(
            provider=_Counted(self._provider, self._tally, self._purse),
            model=selection.model,
            window_tokens=self._room.window,
            max_tokens=selection.max_tokens,
            temperature=selection.temperature,
            reasoning_effort=selection.reasoning_effort,
            count=self._text_tokens,
            counts_slowly=self._text_tokens is not estimate_text,
            on_answer=self._count,
        )

    def _count(self, _request: ModelRequest, answer: Assembler) -> None:
        outcome: Outcome = "failed" if answer.finish_reason is None else "answered"
        self._tally.end(outcome, answer.usage, said=answer.message())

    async def _weighed(
        self,
        weigh: Callable[[Sequence[Message]], tuple[Sequence[int], int]],
        messages: Sequence[Message],
    ) -> tuple[Sequence[int], int]:
        if self._text_tokens is estimate_text:  # which takes no time
            return weigh(messages)
        return await trio.to_thread.run_sync(weigh, messages, abandon_on_cancel=True)

    def _tokens(self, messages: Sequence[Message]) -> list[int]:
        """What each message costs when it is shown, with its note."""
        count = self._text_tokens
        return [
            message_tokens(message, count) + _note_tokens(message, count) for message in messages
        ]


class _Counted:
    """A provider whose requests a tally counts up to their answers, and a purse has to cover."""

    def __init__(self, provider: Provider, tally: Tally, purse: Purse | None) -> None:
        self._provider = provider
        self._tally = tally
        self._purse = purse

    @property
    def name(self) -> str:
        return self._provider.name

    async def open(self, request: ModelRequest) -> DeltaStream:
        request = msgspec.structs.replace(request, watch=self._tally)
        if self._purse is not None:
            try:
                request = self._purse.within(request, self._tally)
            except BudgetSpent as spent:
                raise RequestRejected(str(spent), provider=self.name) from None
        self._tally.begin(request)
        try:
            stream = await self._provider.open(request)
        except ProviderError as error:
            self._tally.refused(self.name, error)
            raise
        except BaseException:
            self._tally.broken_off(self.name)
            raise
        self._tally.answering(self.name)
        return stream

    async def aclose(self) -> None:
        await self._provider.aclose()


def _note_tokens(message: Message, count: TextCounter) -> int:
    note = message.metadata.get(RUNTIME_CONTEXT) if isinstance(message, UserMessage) else None
    return count(note) if isinstance(note, str) else 0
