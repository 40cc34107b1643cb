"""Running the cases of an evaluation, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from nanobot.errors import NanobotError

from ._eval_case import Case, judge_question, score_of, verdict_from_judge
from ._eval_results import Result

if TYPE_CHECKING:
    from nanobot import Nanobot, RunResult

__all__ = ["Runner"]


class Runner:
    """Runs cases against a bot, and has another one judge where a case wants that. Each case has a session of its own."""

    def __init__(
        self,
        bot: Nanobot,
        judge: Nanobot,
        *,
        session_prefix: str,
        timeout_s: float,
        compact: bool,
    ) -> None:
        """`session_prefix` goes before a case's id; what a session of that key held is forgotten."""
        self._bot = bot
        self._judge = judge
        self._prefix = session_prefix
        self._timeout_s = timeout_s
        self._compact = compact

    async def run(
        self, cases: Sequence[Case], concurrency: int, on_result: Callable[[Result], None]
    ) -> None:
        """Run the cases, `concurrency` at a time. `on_result` is called in a thread, for one result at a time.

        Cancellation: the cases in flight are given up and have no result.
        """
        send, receive = trio.open_memory_channel[Case](0)
        writing = trio.Lock()

        async def work() -> None:
            async for case in receive:
                result = await self._result(case)
                async with writing:
                    await trio.to_thread.run_sync(on_result, result)

        async with trio.open_nursery() as nursery:
            for _ in range(min(concurrency, len(cases))):
                nursery.start_soon(work)
            async with send:
                for case in cases:
                    await send.send(case)

    async def _result(self, case: Case) -> Result:
        try:
            return await self._judged(case)
        except NanobotError as error:  # of this case: the others go on
            return Result(id=case.name, ok=None, error=str(error), match=case.match)

    async def _judged(self, case: Case) -> Result:
        key = f"{self._prefix}{case.name}"
        await trio.to_thread.run_sync(self._bot.sessions.delete, key)
        if case.messages:
            await self._bot.sessions.ingest(key, case.messages, source="eval")
            if self._compact:
                await self._bot.runtime.compact_session(key)
        answered = await self._bot.run(case.question, session_key=key, timeout_s=self._timeout_s)
        if answered.error is not None:
            return self._failed(case, answered, answered.error)
        ok: bool | None
        if case.match == "judge":
            judged = await self._judge.run(
                judge_question(case, answered.content),
                session_key=f"{key}:judge",
                ephemeral=True,
                timeout_s=self._timeout_s,
            )
            ok = None if judged.error is not None else verdict_from_judge(judged.content)
            if ok is None:
                reason = judged.error or f"the judge said neither yes nor no: {judged.content:.200}"
                return self._failed(case, answered, reason)
        else:
            ok = score_of(case, answered.content)
        return Result(
            id=case.name,
            ok=ok,
            answer=answered.content,
            latency_ms=answered.metadata.get("latency_ms", 0.0),
            ttft_ms=answered.metadata.get("ttft_ms"),
            usage=answered.usage,
            model=str(answered.metadata.get("model", "")),
            match=case.match,
        )

    def _failed(self, case: Case, answered: RunResult, error: str) -> Result:
        return Result(
            id=case.name,
            ok=None,
            answer=answered.content,
            error=error,
            latency_ms=answered.metadata.get("latency_ms", 0.0),
            usage=answered.usage,
            model=str(answered.metadata.get("model", "")),
            match=case.match,
        )
