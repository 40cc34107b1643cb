"""One turn: from the user's message to the final answer to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import count
from time import time
from typing import Any, Final
from uuid import uuid4

import trio
from msgspec.structs import replace

from nanobot.context import shown_messages
from nanobot.errors import NoOutput, StoreError
from nanobot.messages import AssistantMessage, Message

from ._emit import ConsumerStalled
from ._ending import ERRORS, TurnStopped, facts_of, is_cancellation
from ._events import (
    STREAM_EVENT_RUN_COMPLETED,
    STREAM_EVENT_RUN_FAILED,
    STREAM_EVENT_RUN_STARTED,
    StreamEvent,
)
from ._hook_context import AgentHookContext
from ._hook_points import HookPoints
from ._iteration import Iteration
from ._journal import NO_JOURNAL
from ._next_step import Step
from ._open_turn import OpenTurn, WaitingApproval
from ._parts import TurnParts
from ._result import RunResult, StopReason
from ._tally import Tally
from ._transcript import Transcript
from ._turn_trace import TurnTrace
from ._typed_answer import FINAL_ANSWER, TypedAnswer

__all__ = ["Turn"]

_log = logging.getLogger("nanobot.agent")

_NO_ANSWER: Final = (
    "I stopped after {rounds} rounds of tool calls, as many as this run allows, without an answer."
)


class Turn:
    """One turn of a session: asks the model, runs the tools it wants, asks again, until there is an answer.

    Runs once, in one Trio task, and knows nothing of other turns. Events come in this order, each with the iteration it
    belongs to (`*` any number, `?` perhaps; several tools of one iteration may run, and end, in any order):

        run.started ( (reasoning.delta* reasoning.completed)? text.delta* )*  text.completed(resuming=True)
        (tool.started tool.ended)* ... ( (reasoning.delta* reasoning.completed)? text.delta* )*
        text.completed(resuming=False) run.completed

    A turn that fails, is cancelled or runs out of time stops anywhere in it, tells the end of each tool it had
    announced, and says `run.failed`. So the terminal event is `run.failed` exactly if the result's `error` is set. A
    turn that hit `max_iterations`, or whose model had nothing to say, did what it was allowed to and ends with
    `run.completed`; the result's `stop_reason` tells.
    """

    def __init__(self, parts: TurnParts) -> None:
        self._parts = parts
        context = None
        self._hooks: HookPoints | None = None
        if parts.hooks:
            context = AgentHookContext(parts.tool_context.session_key, parts.tool_context.deps)
            self._hooks = HookPoints(parts.hooks, parts.cross, context, parts.telemetry)
        self._trace: TurnTrace | None = None
        if parts.telemetry is not None:
            self._trace = TurnTrace(parts.telemetry, self._hooks)
        self._transcript = Transcript(parts.messages, context)
        self._tally = parts.tally or Tally(parts.estimate)
        self._iteration: Iteration | None = None
        self._open: Iteration | None = None  # the iteration whose messages are not kept yet
        self._content = ""
        self._tools_used = () if parts.open_turn is None else parts.open_turn.tools_used
        self._persisted = True
        self._store_error = ""
        self._withheld = False
        self._finally_reached = False
        self._result: RunResult[Any] | None = None
        self._state = parts.open_turn  # what the journal keeps, or is to keep, of the turn
        self._parked: WaitingApproval | None = None

    async def run(self) -> RunResult[Any]:
        """Run the turn; return its result, also if the model failed, time ran out or the reader stalled.

        Raises:
          trio.Cancelled: The surrounding scope was cancelled. First, shielded from it and bounded by
          `Limits.settle_s`, the
            partial answer and an outcome for every tool call are kept, hooks are told, and `run.failed` is sent;
            `result` has what stands.
          Exception: A bug, here or in a hook that reraises or in `finalize_content`, in a provider or a journal; all of
            the above is done first, except that text which `finalize_content` failed on is neither kept nor shown.
        """
        try:
            timeout_s = self._parts.limits.timeout_s
            stop_reason = await (
                self._converse() if timeout_s is None else self._converse_in(timeout_s)
            )
            await self._tell_hooks_of_the_end()
        except TurnStopped as stopped:
            return await self._fail(stopped.stop_reason, stopped.error, stopped.exception)
        except ConsumerStalled as stalled:
            return await self._fail("consumer_stalled", str(stalled), stalled)
        except BaseException as error:
            # Each await in `_fail` is shielded, and bounded by `Limits.settle_s`.
            if is_cancellation(error):
                await self._fail("cancelled", "", None)  # noqa: ASYNC102
            else:
                await self._fail("error", str(error) or type(error).__name__, error)  # noqa: ASYNC102
            raise
        finally:
            if self._trace is not None:
                result = self._result
                failed = result is not None and result.error is not None
                self._trace.close("error" if failed else None)
        return self._complete(stop_reason)

    def result(self, stop_reason: StopReason, error: str | None = None) -> RunResult[Any]:
        """What stands: the result of a turn that has ended, else what it would be if the turn ended now, for this
        reason.

        For a run that never got to its turn, and for one whose `run` raised.
        """
        if self._result is not None:
            return self._result
        parts, tally = self._parts, self._tally
        provider, model = tally.answered_by or (parts.provider.name, parts.settings.model)
        metadata: dict[str, Any] = {
            "latency_ms": tally.elapsed_ms(),
            "ttft_ms": tally.ttft_ms,
            "model": model,
            "provider": provider,
            "iterations": 0 if self._iteration is None else self._iteration.index + 1,
            "finish_reason": None if self._iteration is None else self._iteration.finish_reason,
            **tally.to_metadata(),
        }
        if tally.estimated:
            metadata["usage_estimated"] = True
        if tally.subagents:
            usage = tally.subagent_usage.to_dict()
            metadata["subagents"] = {"runs": tally.subagents, "usage": usage}
        if self._parked is not None:
            metadata["approval"] = _told(self._parked)
        if not self._persisted:
            metadata["persisted"] = False
            metadata["store_error"] = self._store_error
        result: RunResult[Any] = RunResult(
            content=self._content,
            tools_used=list(self._tools_used),
            usage=tally.usage.to_dict(),
            stop_reason=stop_reason,
            error=error or ERRORS.get(stop_reason),
            metadata=metadata,
        )
        result._messages_from(self._transcript.messages)
        return result

    def result_if_cancelled(self) -> RunResult[Any]:
        """What stands, if the turn is cancelled now and its end is not awaited."""
        return self.result("cancelled")

    async def _converse_in(self, timeout_s: float) -> StopReason:
        with trio.move_on_after(timeout_s):
            return await self._converse()
        raise TurnStopped("timeout", f"The run did not finish within {timeout_s:g} s.")

    async def _converse(self) -> StopReason:
        """From the user's message to the kept answer; returns why the turn stopped."""
        self._tally.start()
        self._tell_start()
        first = 0
        if not self._parts.resumes:
            user_message = self._parts.user_message or self._parts.messages[-1]
            await self._record((user_message,))
            if self._parts.limits.timeout_s is not None:  # time may be over, and nobody was asked
                await trio.lowlevel.checkpoint_if_cancelled()
        if self._hooks is not None:
            await self._hooks.start()
        if self._parts.resumes:
            first = await self._go_on()
            if self._parked is not None:
                return "parked"
        for index in count(first):
            closing = index >= self._parts.limits.max_iterations
            if self._parts.inbox.ready or (closing and self._parts.inbox.expecting):
                await self._take_in(everything=closing)
            iteration = self._open_iteration(index, closing=closing)
            step = await iteration.answer()
            match step:
                case Step.RUN_TOOLS | Step.REFUSE_CALLS:
                    assert iteration.round is not None
                    await iteration.end_text(resuming=True)
                    if step is Step.REFUSE_CALLS:
                        await iteration.round.refuse()
                    else:
                        if self._state is not None:
                            iteration.round.on_begin = self._note_beginning
                        await iteration.round.run()
                        if iteration.round.parked is not None:
                            await self._park(iteration)
                            return "parked"
                    if self._trace is not None:
                        self._trace.ran_tools(iteration.round)
                    await self._keep(iteration.messages(iteration.segment.text))
                    answer = self._parts.answer
                    if answer is not None and await self._gave(answer, iteration, closing):
                        return "completed"
                    if self._hooks is not None:
                        await self._hooks.reach("after_iteration")
                case Step.FILTERED:
                    raise TurnStopped(
                        "error", "The model service's content filter ended the answer."
                    )
                case _ if not closing and self._parts.inbox.expecting:
                    await self._wait_for_the_rest(iteration)
                case _ if not await self._fits(iteration, closing):
                    continue
                case _:
                    empty = step is Step.GIVE_UP
                    if empty and closing:
                        await iteration.say(_NO_ANSWER.format(rounds=index))
                    stop_reason: StopReason = (
                        "max_iterations" if closing else "empty_response" if empty else "completed"
                    )
                    await self._conclude(iteration, stop_reason)
                    return stop_reason
        raise AssertionError("count() never ends")

    def _open_iteration(self, index: int, *, closing: bool) -> Iteration:
        if self._trace is not None:
            self._trace.open_iteration(index, closing=closing)
        self._iteration = self._open = Iteration(
            index,
            closing=closing,
            parts=self._parts,
            transcript=self._transcript,
            tally=self._tally,
            hooks=self._hooks,
        )
        return self._iteration

    async def _go_on(self) -> int:
        """Finish the iteration in which the turn was left, and return the next one; `_parked` tells if it waits again."""
        assert self._state is not None
        if self._state.calls is not None:
            iteration = self._open_iteration(self._state.iteration, closing=False)
            round_ = iteration.take_up(self._state.calls.answer)
            round_.restore(self._state)
            round_.on_begin = self._note_beginning
            await round_.run()
            if round_.parked is not None:
                await self._park(iteration)
                return iteration.index
            await self._keep(iteration.messages(iteration.segment.text))
            if self._hooks is not None:
                await self._hooks.reach("after_iteration")
        if arrived := self._state.arrived:
            self._state = replace(self._state, arrived=())
            self._transcript.extend(shown_messages("", arrived))
            await self._record(arrived)
        return self._state.iteration

    async def _note_beginning(self, index: int) -> None:
        """Write down that a call begins, before it does: whoever goes on with the turn must not run it again."""
        iteration = self._open
        assert iteration is not None
        assert iteration.round is not None
        assert self._state is not None
        calls = iteration.round.open_calls(self._answer(iteration), beginning=index)
        self._state = replace(self._state, iteration=iteration.index, calls=calls)
        await self._record(())
        if not self._persisted:
            error = (
                f"A call was not run, because that could not be written down: {self._store_error}"
            )
            raise TurnStopped("error", error)

    async def _park(self, iteration: Iteration) -> None:
        """Leave the turn to whoever goes on with it when somebody has decided about the call that waits."""
        assert iteration.round is not None
        assert iteration.round.parked is not None
        arrived: Sequence[Message] = ()
        if (
            self._parts.inbox.ready or self._parts.inbox.expecting
        ):  # nothing of the run may be alive
            await self._parts.inbox.wait()
            arrived = await self._parts.inbox.take()
        parked, now = iteration.round.parked, time()
        waiting = WaitingApproval(
            uuid4().hex, parked.index, parked.request, now, now + parked.expires_s
        )
        state = self._state or self._parts.opened()
        self._state = replace(
            state,
            iteration=iteration.index,
            calls=iteration.round.open_calls(self._answer(iteration)),
            waiting=waiting,
            arrived=(*state.arrived, *arrived),
        )
        await self._record(())
        if not self._persisted:
            raise TurnStopped("error", f"The run could not be parked: {self._store_error}")
        self._open, self._parked = None, waiting
        self._content = iteration.segment.text
        self._tools_used += iteration.round.succeeded
        if self._hooks is not None:
            self._hooks.context.stop_reason = "parked"

    @staticmethod
    def _answer(iteration: Iteration) -> AssistantMessage:
        answer = iteration.messages(iteration.segment.text)[0]
        assert isinstance(answer, AssistantMessage)
        return answer

    async def _take_in(self, *, everything: bool) -> None:
        """Show the model what came from outside; all that will come, if this is the last time."""
        if everything:
            await self._parts.inbox.wait()
        if messages := await self._parts.inbox.take():
            self._transcript.extend(shown_messages("", messages))
            await self._record(messages)

    async def _wait_for_the_rest(self, iteration: Iteration) -> None:
        """The model has nothing more to do before it hears of what it has others do."""
        await iteration.end_text(resuming=True)
        await self._keep(iteration.messages(iteration.segment.text))
        if self._hooks is not None:
            await self._hooks.reach("after_iteration")
        await self._parts.inbox.wait()

    async def _fits(self, iteration: Iteration, closing: bool) -> bool:
        """Whether the text is an answer as it was asked for; if not, the model is told what is wrong with it.

        Raises:
          TurnStopped: It was told often enough.
        """
        answer = self._parts.answer
        if answer is None or (problem := answer.accept(iteration.segment.text)) is None:
            return True
        correction = answer.try_again(problem)
        if correction is None:
            await self._conclude(iteration, "error")
            raise self._without_output(answer, problem)
        await iteration.end_text(resuming=True)
        await self._keep((*iteration.messages(iteration.segment.text), correction))
        if self._hooks is not None:
            await self._hooks.reach("after_iteration")
        return False

    async def _gave(self, answer: TypedAnswer, iteration: Iteration, closing: bool) -> bool:
        """Whether the answer was given by a call that has just ended; if so, it is said in the model's place.

        Raises:
          TurnStopped: It did not fit, and the model was told often enough.
        """
        assert iteration.round is not None
        if answer.given is None:
            wrong = iteration.round.refused(FINAL_ANSWER)
            if wrong is None or answer.refused():
                return False
            call, problem = wrong
            self._content = await self._presentable(call.arguments)
            raise self._without_output(answer, problem)
        given, answer.given = answer.given, None
        if self._parts.inbox.expecting and not closing:
            await self._parts.inbox.wait()  # what others found may change the answer
            return False
        iteration.restart()
        self._open = iteration
        await iteration.say(given)
        answer.accept(given)
        await self._conclude(iteration, "completed")
        return True

    def _without_output(self, answer: TypedAnswer, problem: str) -> TurnStopped:
        error = NoOutput(answer.failure(problem), self._content)
        return TurnStopped("error", str(error), error)

    async def _conclude(self, iteration: Iteration, stop_reason: StopReason) -> None:
        """Make the text the answer: through the hooks, into the journal, then to the reader."""
        await iteration.end_text(resuming=False)
        content = iteration.segment.text
        if self._hooks is not None:
            try:
                content = await self._hooks.finalize(content)
            except Exception:
                self._withheld = True
                raise
            self._hooks.context.final_content = content
            self._hooks.context.stop_reason = stop_reason
        answer = self._parts.answer
        # What hooks took out of the text must not come back in the output.
        changed = content != iteration.segment.text and stop_reason != "error"
        if answer is not None and changed and (problem := answer.accept(content)) is not None:
            self._content = content
            await self._keep(iteration.messages(content))
            raise self._without_output(answer, f"hooks changed it ({problem})")
        self._content = content
        await self._keep(iteration.messages(content), over=True)
        await iteration.tell_text_completed(content, resuming=False)
        if self._hooks is not None:
            await self._hooks.reach("after_iteration")

    async def _tell_hooks_of_the_end(self) -> None:
        if self._hooks is not None:
            self._hooks.context.usage = self._tally.usage.to_dict()
            if self._parts.answer is not None:
                self._hooks.context.output = self._parts.answer.output
            await self._hooks.reach("after_run")
            self._finally_reached = True
            with self._settling():  # what others open in `before_run` they close here
                await self._hooks.reach("on_finally")

    def _complete(self, stop_reason: StopReason) -> RunResult[Any]:
        self._result = result = self.result(stop_reason)
        if self._parts.answer is not None:
            result._output = self._parts.answer.output
        if self._parts.emit.wanted:
            self._parts.emit.nowait(
                StreamEvent(
                    STREAM_EVENT_RUN_COMPLETED,
                    content=result.content,
                    result=result,
                    iteration=self._index,
                    usage=dict(result.usage),
                    metadata=dict(result.metadata),
                )
            )
        return result

    async def _fail(
        self, stop_reason: StopReason, error: str, exception: BaseException | None
    ) -> RunResult[Any]:
        """End a turn that did not get to its answer: keep what there is, tell hooks, tell the reader."""
        await self._salvage()
        await self._parts.inbox.aclose()  # before the result: it counts what subagents have cost
        self._result = result = self.result(stop_reason, error)
        result.metadata.update(facts_of(exception))
        if self._hooks is not None:
            await self._tell_hooks_of_failure(self._hooks, result, exception)
        if self._parts.emit.wanted:
            metadata = {**result.metadata, "reason": stop_reason}
            self._parts.emit.nowait(
                StreamEvent(
                    STREAM_EVENT_RUN_FAILED,
                    content=result.content,
                    iteration=self._index,
                    usage=dict(result.usage),
                    error=result.error,
                    metadata=metadata,
                )
            )
        return result

    async def _salvage(self) -> None:
        """Keep the iteration that the end of the turn interrupted, as legal history."""
        iteration = self._open
        if iteration is None:
            if self._state is not None and self._parked is None:
                self._state = None
                await self._record(())
            return
        text = iteration.segment.text
        self._content = await self._presentable(text)
        if iteration.round is None:
            await self._keep(iteration.messages(self._content, interrupted=True), over=True)
        else:
            iteration.round.tell_the_rest()
            await self._keep(iteration.messages(text), over=True)

    async def _presentable(self, text: str) -> str:
        """A partial answer as hooks want it shown; "" if they fail: what they filter must not get out."""
        if self._hooks is None or not text:
            return text
        if self._withheld:
            return ""
        with self._settling():
            try:
                return await self._hooks.finalize(text)
            except Exception:  # noqa: BLE001 - strangers' code, in a run that has failed already
                _log.exception("finalize_content failed on a partial answer; it is dropped")
        return ""

    async def _tell_hooks_of_failure(
        self, hooks: HookPoints, result: RunResult[Any], exception: BaseException | None
    ) -> None:
        context = hooks.context
        context.final_content = result.content
        context.stop_reason = result.stop_reason
        context.error = result.error
        context.exception = exception
        context.usage = dict(result.usage)
        for point in ("on_error",) if self._finally_reached else ("on_error", "on_finally"):
            with self._settling():
                try:
                    await hooks.reach(point)
                except Exception:  # noqa: BLE001 - a hook that reraises, but another reason came first
                    _log.exception("%s failed in a run that had failed before", point)

    async def _keep(self, messages: Sequence[Message], *, over: bool = False) -> None:
        """What an iteration leaves behind is final now; `over`: and with it the turn."""
        assert self._open is not None
        kept_open, index = self._state is not None, self._open.index
        if self._open.round is not None:
            used = self._open.round.succeeded
            if self._parts.answer is not None:
                used = tuple(name for name in used if name != FINAL_ANSWER)
            self._tools_used += used
        self._open = None
        self._transcript.extend(messages)
        if self._state is not None:
            self._state = (
                None
                if over
                else replace(self._state, iteration=index + 1, calls=None, waiting=None)
            )
        if messages or kept_open:
            await self._record(messages, last=over)

    async def _record(self, messages: Sequence[Message], *, last: bool = False) -> None:
        """Write messages down, all or none. After a failure no more is written: what is there stays legal."""
        if not self._persisted or self._parts.journal is NO_JOURNAL:
            return
        self._persisted = False  # until it returns: after a bug in it, too, it is not asked again
        journal, kept, within_s = self._parts.journal, self._kept(), self._parts.limits.store_s
        try:
            try:
                if journal.is_ahead:
                    await journal.record(messages, kept, last=last)
                    self._persisted = True
                    return
                with trio.move_on_after(within_s) as scope:
                    await journal.record(messages, kept, last=last)
            except trio.Cancelled:  # noqa: ASYNC103 - the next checkpoint raises it again
                # So nothing was written; and somebody waits for the end now.
                within_s = self._parts.limits.settle_s
                with self._settling() as scope:
                    await journal.record(messages, kept, last=last)  # noqa: ASYNC102 - shielded, and bounded
            if scope.cancelled_caught:
                raise StoreError(f"the store took longer than {within_s:g} s")
        except StoreError as error:
            self._store_error = str(error)
            _log.error("this turn is not stored from here on: %s", error)
        else:
            self._persisted = True

    def _kept(self) -> OpenTurn | None:
        """What the journal is to keep of the turn, with what it has cost by now."""
        if self._state is None:
            return None
        return replace(self._state, spent=self._tally.to_ledger(), tools_used=self._tools_used)

    def _settling(self) -> trio.CancelScope:
        """A scope for what a turn does whatever happens around it, for a while."""
        return trio.CancelScope(
            shield=True, deadline=trio.current_time() + self._parts.limits.settle_s
        )

    def _tell_start(self) -> None:
        if self._parts.emit.wanted:
            run = self._parts.tool_context
            metadata = {
                "session_key": run.session_key,
                "channel": run.channel,
                "chat_id": run.chat_id,
                "sender_id": run.sender_id,
                "model": self._parts.settings.model,
                "model_preset": self._parts.model_preset,
            }
            self._parts.emit.nowait(
                StreamEvent(STREAM_EVENT_RUN_STARTED, iteration=0, metadata=metadata)
            )

    @property
    def _index(self) -> int:
        return 0 if self._iteration is None else self._iteration.index


def _told(waiting: WaitingApproval) -> dict[str, Any]:
    """What a parked run's result says of the call that it waits for."""
    return {
        "id": waiting.id,
        "session_key": waiting.request.session_key,
        "name": waiting.request.name,
        "arguments": waiting.request.arguments,
        "tool_call_id": waiting.request.tool_call_id,
        "expires_at": waiting.expires_at,
    }
