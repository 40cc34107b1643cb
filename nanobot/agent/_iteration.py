"""One answer of the model: asked for until it is whole, told as it comes, and turned into messages."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Sequence
from random import getrandbits
from typing import Any, Final

from nanobot.errors import MalformedStream, ProviderError
from nanobot.messages import (
    Assembler,
    AssistantMessage,
    Delta,
    FinishReason,
    Message,
    ReasoningDelta,
    TextDelta,
    ThinkingBlock,
    ToolCall,
    ToolCallDelta,
    UserMessage,
)
from nanobot.providers import DeltaStream, ModelRequest

from ._attempt import Outcome
from ._budget import BudgetSpent, Purse
from ._ending import TurnStopped
from ._events import (
    STREAM_EVENT_REASONING_COMPLETED,
    STREAM_EVENT_REASONING_DELTA,
    STREAM_EVENT_TEXT_COMPLETED,
    STREAM_EVENT_TEXT_DELTA,
    StreamEvent,
)
from ._hook_context import ModelAnswer
from ._hook_points import HookPoints
from ._joined import joined
from ._next_step import Step, next_step
from ._parts import TurnParts
from ._segment import Segment
from ._tally import Tally
from ._tool_round import ToolRound, hook_calls
from ._transcript import Transcript

__all__ = ["Iteration"]

_log = logging.getLogger("nanobot.agent")

_NO_MORE_TOOLS: Final = UserMessage(
    "You have used up the tool calls of this turn and cannot make more. Answer now with what you have found out, "
    "and say what is still open."
)
_IN_WORDS: Final = UserMessage("Your reply was empty. Answer in words now, without calling a tool.")
_GO_ON: Final = UserMessage(
    "Your answer hit its length limit. Go on exactly where it broke off: repeat nothing, and do not mention the break."
)

_NOTHING_YET: Final = Assembler()
"""What an iteration has before it asks. Never fed."""


class Iteration:
    """One answer of the model and the tools it asks for.

    It usually takes one request. An answer that hit the token limit is continued, an empty one asked for again, and
    all of that is one iteration: one segment of text, one message. What we say to the model in between is in these
    requests only, never in a history.

    Reasoning is told before the text it led to: `reasoning.completed` comes before the next `text.delta`. A model
    that goes back to reasoning in the middle of its text gets another stretch of `reasoning.delta` and
    `reasoning.completed` there; the text stays one segment.

    Args:
      index: Which iteration of the turn this is, counted from 0.
      closing: Whether the turn's tool calls are used up, so that the model has to answer.

    Attributes:
      segment: What the model has said so far.
      round: The tool calls of the answer, once it is there and has some.
      finish_reason: Why the model stopped, in the last request that ended by itself.
    """

    def __init__(
        self,
        index: int,
        *,
        closing: bool,
        parts: TurnParts,
        transcript: Transcript,
        tally: Tally,
        hooks: HookPoints | None,
    ) -> None:
        self.index = index
        self.segment = Segment()
        self.round: ToolRound | None = None
        self.finish_reason: FinishReason | None = None
        self._closing = closing
        self._parts = parts
        self._transcript = transcript
        self._tally = tally
        self._hooks = hooks
        self._emit = parts.emit if parts.emit.wanted else None
        self._assembler = _NOTHING_YET
        self._thinking: tuple[ThinkingBlock, ...] = ()
        self._calls: tuple[ToolCall, ...] = ()
        tally.start_iteration(index)
        if hooks is not None:
            hooks.context.start_iteration(index, self.segment)

    async def answer(self) -> Step:
        """Get one answer; return what it calls for, which is none of the steps that ask again.

        Raises:
          TurnStopped: The provider failed, or the budget does not cover the call.
          ConsumerStalled: As from `Emit`.
          Exception: From a hook that reraises; `UsageError` if hooks left messages that are none.
        """
        if self._hooks is not None:
            await self._hooks.reach("before_iteration")
        use_tools = not self._closing
        nudges: tuple[Message, ...] = (_NO_MORE_TOOLS,) if self._closing else ()
        if (answer := self._parts.answer) is not None:
            reminder = answer.reminder(closing=self._closing)
            nudges = nudges if reminder is None else (*nudges, reminder)
        rest: tuple[Message, ...] = ()
        continuations = empty_answers = 0
        while True:
            calls = await self._ask((*nudges, *rest), use_tools=use_tools)
            assert self.finish_reason is not None
            step = next_step(
                self.finish_reason,
                has_text=bool(self.segment.text_pieces),
                has_calls=bool(calls),
                closing=not use_tools,
                continuations=continuations,
                empty_answers=empty_answers,
                limits=self._parts.limits,
            )
            match step:
                case Step.CONTINUE:
                    continuations += 1
                    self._thinking, self._assembler = self._thinking_so_far(), _NOTHING_YET
                    rest = (AssistantMessage(self.segment.text, thinking=self._thinking), _GO_ON)
                case Step.ASK_AGAIN:
                    empty_answers += 1
                    self.segment.forget_white_space()
                case Step.ASK_PLAINLY:
                    use_tools = False
                    nudges = (_IN_WORDS,)
                    self.segment.forget_white_space()
                case _:
                    self._close(calls if step in (Step.RUN_TOOLS, Step.REFUSE_CALLS) else ())
                    return step

    def take_up(self, answer: AssistantMessage) -> ToolRound:
        """Be the iteration that this answer belongs to, which was told before, and return the round of its calls."""
        if answer.content:
            self.segment.text_pieces.append(answer.content)
        if answer.reasoning:
            self.segment.reasoning_pieces.append(answer.reasoning)
            self.segment.close_reasoning()
        self._thinking = answer.thinking
        self.finish_reason = "tool_calls"
        self._close(answer.tool_calls)
        assert self.round is not None  # it has calls
        return self.round

    async def say(self, text: str) -> None:
        """Say something in the model's place."""
        await self._tell_text(text)
        if self._hooks is not None:
            await self._hooks.stream([text])

    def restart(self) -> None:
        """Make room for what is said in the model's place, as an answer of its own, once this one is kept."""
        self.index += 1
        self.segment = Segment()
        self.round = None
        self._calls, self._thinking, self._assembler = (), (), _NOTHING_YET
        if self._hooks is not None:
            self._hooks.context.restart_text(self.index, self.segment)

    async def end_text(self, *, resuming: bool) -> None:
        """Tell readers and hooks that no more text comes, and whether another answer follows."""
        await self._end_reasoning()
        if self._hooks is not None:
            await self._hooks.end_stream(resuming=resuming)
        if resuming:
            await self.tell_text_completed(self.segment.text, resuming=True)

    async def tell_text_completed(self, content: str, *, resuming: bool) -> None:
        """Tell readers the whole text, as it is kept."""
        if self._emit is not None:
            provider, model = self._tally.answered_by or ("", "")
            await self._emit(
                StreamEvent(
                    STREAM_EVENT_TEXT_COMPLETED,
                    content=content,
                    iteration=self.index,
                    resuming=resuming,
                    metadata={"provider": provider, "model": model},
                )
            )

    def messages(self, content: str, *, interrupted: bool = False) -> tuple[Message, ...]:
        """What a history keeps of this iteration as it stands, with `content` for its text. Nothing, if nothing was
        said.

        Every tool call has its result, whenever this is called.
        """
        if not self._calls and not content.strip():
            return ()
        answer = AssistantMessage(
            content,
            self._calls,
            self.segment.reasoning,
            self._thinking_so_far(),
            interrupted,
        )
        return (answer,) if self.round is None else (answer, *self.round.results)

    def _ask(
        self, extra: Sequence[Message], *, use_tools: bool
    ) -> Coroutine[Any, Any, tuple[ToolCall, ...]]:
        """Send one request and take in its answer; return the calls in it."""
        self._transcript.adopt()
        shown = self._transcript.messages
        tally = self._tally
        request = self._parts.settings.request(
            [*shown, *extra] if extra else shown,
            self._parts.toolset.specs,
            use_tools=use_tools,
            watch=tally,
            output=None if self._parts.answer is None else self._parts.answer.format,
        )
        purse = self._parts.purse
        return self._answer_to(request) if purse is None else self._buy(request, purse)

    async def _buy(self, request: ModelRequest, purse: Purse) -> tuple[ToolCall, ...]:
        """Take in the answer to a request for which there is money."""
        tally = self._tally
        try:
            request = await purse.draw(request, tally)
        except BudgetSpent as spent:
            raise TurnStopped("budget", str(spent)) from None
        try:
            return await self._answer_to(request)
        finally:
            purse.put_back(tally)

    async def _answer_to(self, request: ModelRequest) -> tuple[ToolCall, ...]:
        """Take in the answer to a request; return the calls in it."""
        tally, provider = self._tally, self._parts.provider
        self._assembler = _NOTHING_YET
        tally.begin(request)
        try:
            stream = await provider.open(request)
        except ProviderError as error:
            tally.refused(provider.name, error)
            raise TurnStopped("error", str(error), error) from error
        except BaseException:
            tally.broken_off(provider.name)
            raise
        tally.answering(provider.name)
        self._assembler = Assembler(
            f"{getrandbits(64):x}"
        )  # not while only the service works: many may wait
        text_before, reasoning_before = (
            len(self.segment.text_pieces),
            len(self.segment.reasoning_pieces),
        )
        outcome: Outcome = "cancelled"
        failure: Exception | None = None
        try:
            await self._listen(stream)
            outcome = "answered"
        except (
            TurnStopped
        ) as stopped:  # the provider's failure; what readers and hooks raise is not
            outcome, failure = "failed", stopped.exception
            raise
        finally:
            said = None
            if (usage := self._assembler.usage) is None or not usage.total_tokens:
                said = self._said_since(text_before, reasoning_before)
            tally.end(outcome, usage, said=said, error=failure)
            await stream.aclose()
        calls, notes = self._assembler.tool_calls()
        for note in notes:
            _log.info("%s: %s", self._parts.provider.name, note)
        return calls

    async def _listen(self, stream: DeltaStream) -> None:
        deltas = stream.__aiter__()
        while True:
            try:  # around the provider only: what readers and hooks raise below has other reasons
                batch = await deltas.__anext__()
            except StopAsyncIteration:
                break
            except ProviderError as error:
                raise TurnStopped("error", str(error), error) from error
            self._tally.first_delta()
            await self._take(batch)
        self.finish_reason = self._assembler.finish_reason
        if self.finish_reason is None:
            cut = MalformedStream(
                "the answer stopped without an end", provider=self._parts.provider.name
            )
            raise TurnStopped("error", str(cut), cut)

    async def _take(self, batch: Sequence[Delta]) -> None:
        said: list[str] = []
        segment = self.segment
        pieces = segment.text_pieces
        for delta in joined(batch) if self._parts.join_deltas else batch:
            if type(delta) is TextDelta:  # the frequent ones first, without pattern matching
                if text := delta.text if pieces else segment.first_text(delta.text):
                    if self._emit is None:
                        pieces.append(text)
                    else:
                        await self._tell_text(text)
                    said.append(text)
            elif type(delta) is ReasoningDelta:
                await self._tell_reasoning(delta.text)
            else:
                if type(delta) is ToolCallDelta:
                    await self._end_reasoning()
                self._assembler.feed((delta,))
        if said and self._hooks is not None:
            await self._hooks.stream(said)

    # What readers could not be told, because the turn ended while it waited for them, does not count as said: so the
    # text that is kept is the text they saw, on every path.

    async def _tell_text(self, text: str) -> None:
        if self._emit is not None:
            if self.segment.reasoning_open:
                await self._end_reasoning()
            await self._emit(StreamEvent(STREAM_EVENT_TEXT_DELTA, text, iteration=self.index))
        self.segment.text_pieces.append(text)

    async def _tell_reasoning(self, text: str) -> None:
        if not text:
            return
        if self._emit is not None:
            await self._emit(StreamEvent(STREAM_EVENT_REASONING_DELTA, text, iteration=self.index))
        self.segment.reasoning_pieces.append(text)

    async def _end_reasoning(self) -> None:
        if self._emit is not None and self.segment.reasoning_open:
            stretch = self.segment.close_reasoning()
            await self._emit(
                StreamEvent(STREAM_EVENT_REASONING_COMPLETED, content=stretch, iteration=self.index)
            )

    def _close(self, calls: tuple[ToolCall, ...]) -> None:
        """The answer is whole."""
        self._calls = calls
        if self._hooks is not None:
            assert self.finish_reason is not None
            context = self._hooks.context
            context.tool_calls = hook_calls(calls)
            context.usage = self._tally.iteration_usage.to_dict()
            context.response = ModelAnswer(
                content=self.segment.text,
                reasoning_content=self.segment.reasoning,
                tool_calls=context.tool_calls,
                finish_reason=self.finish_reason,
                usage=context.usage,
            )
        if calls:
            self.round = ToolRound(calls, self.index, self._parts, self._hooks)

    def _thinking_so_far(self) -> tuple[ThinkingBlock, ...]:
        """The reasoning items to send back; those of a request that brought nothing are not among them."""
        return (*self._thinking, *self._assembler.message().thinking)

    def _said_since(self, text_before: int, reasoning_before: int) -> AssistantMessage:
        """What the last request brought, well or badly, for counting its tokens."""
        return AssistantMessage(
            "".join(self.segment.text_pieces[text_before:]),
            self._assembler.tool_calls()[0],
            "".join(self.segment.reasoning_pieces[reasoning_before:]),
        )
