"""From a request to a turn: the session's history, what the model is shown, and where it is written down."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import Any, Final

import trio
from msgspec.structs import replace

from nanobot.agent import (
    NO_JOURNAL,
    NOBODY,
    AgentHook,
    Limits,
    ModelSettings,
    OpenTurn,
    Purse,
    RunResult,
    Tally,
    Turn,
    TurnParts,
    TypedAnswer,
    estimate_by_length,
)
from nanobot.context import (
    Calibration,
    LazyCounter,
    SystemPrompt,
    count_ahead,
    messages_tokens,
    recent_history,
    recent_history_tokens,
    shown_messages,
    turn_note,
    user_message,
    with_turn_note,
)
from nanobot.errors import StoreError
from nanobot.memory import HistoryLog
from nanobot.messages import OPENING, Message, UserMessage
from nanobot.providers import Provider
from nanobot.providers._select import ModelSelection
from nanobot.providers._traced import TracedProvider
from nanobot.sessions import SessionRecord, SessionStore, Unsaved
from nanobot.telemetry import Telemetry
from nanobot.tools import Approval, RunContext, Toolset, Workspace
from nanobot.tools._traced import traced

from ._compaction import Compactor
from ._cross import cross_of
from ._history_room import HistoryRoom
from ._history_view import HistoryView
from ._idle_sessions import IdleSessions
from ._ingest import ingest
from ._offered import OfferedTools
from ._open_sessions import Ahead, OpenSession, OpenSessions, SessionOutOfReach
from ._providers import Providers
from ._request import RunRequest
from ._resume import options_of, turn_to_resume
from ._run import Run
from ._run_trace import follow
from ._spending import Budgets, Spent, note_spending, purse_of, spent_before, spent_by
from ._steering import Steering
from ._subagents import Errand, Lineage, Subagents
from ._turn_inbox import TurnInbox
from ._turn_plan import BegunTurn, TurnFrame, TurnPlan

__all__ = ["TurnMaker"]

_log = logging.getLogger("nanobot.sessions")

_NO_BUDGETS: Final = Budgets()
_UNCALIBRATED: Final = Calibration()
_CALIBRATED_MODELS: Final = 100  # overrides are any string; past so many, all are learned again


class TurnMaker:
    """What all runs of a bot have in common. One per runtime; its async methods are what runs do, in a session's actor.

    Args:
      store: Where sessions are kept.
      unsaved: What the bot was told to take in without storing it.
      prompt: The system prompt of a profile.
      tools: The tools of the bot.
      hooks: The hooks of the bot, which run before those of a run.
      approval: Who is asked before which tools are run, unless a run brings its own approver.
      workspace: The folder that tools may touch.
      limits: How far a turn may go unless its request says otherwise.
      max_subagents: How many subagents of one run work at the same time.
      max_subagent_depth: How deep they may start others; 1 for not at all, 0 for no subagents.
      budgets: What runs and sessions may spend; a request may bring a budget of its own.
      consolidation_ratio: What share of the room for history is taken after a compaction.
      history_log: Where notes on compacted sessions go.
      now: The time, in the zone that the user lives in.
      providers: The model services.
      steering: The runs that steer the turns of others.
      resumable: Whether turns can go on after a crash unless their request says otherwise.
      telemetry: Who is told of runs; None for nobody.

    Attributes:
      sessions: The sessions that are open here; its `forget` is to be called when an actor passes away.
      idle: Which sessions were used last, and when.
      tools: The tools of the bot.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        unsaved: Unsaved,
        prompt: Callable[[ModelSelection], SystemPrompt],
        tools: OfferedTools,
        hooks: Sequence[AgentHook],
        approval: Approval,
        workspace: Workspace,
        limits: Limits,
        max_subagents: int,
        max_subagent_depth: int,
        consolidation_ratio: float,
        history_log: HistoryLog,
        now: Callable[[], datetime],
        providers: Providers,
        steering: Steering,
        resumable: bool = False,
        budgets: Budgets = _NO_BUDGETS,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._counter = LazyCounter()
        self.sessions = OpenSessions(
            store, unsaved, self._counter, writes_after_turn=budgets.session is not None
        )
        self.idle = IdleSessions()
        self._prompt = prompt
        self.tools = tools
        self._hooks = tuple(hooks)
        self._approval = approval
        self._workspace = workspace
        self._limits = limits
        self._max_subagents = max_subagents
        self._max_subagent_depth = max_subagent_depth
        self._ratio = consolidation_ratio
        self._history_log = history_log
        self._now = now
        self._calibrations: dict[str, Calibration] = {}
        self._budgets = budgets
        self.providers = providers
        self._steering = steering
        self._resumable = resumable
        self._telemetry = telemetry
        self._make_subagent = self._subagent  # bound once, not in each turn

    async def carry_out(
        self,
        errand: Errand,
        run: Run,
    ) -> RunResult[Any]:
        """Run one turn.

        Raises:
          UsageError: A file that goes with the message cannot be read, or two tools have one name.
          ConfigError: The provider cannot be used.
          StoreError: The session cannot be read, and the run is ephemeral or goes on with a turn. Another one goes on
            without it.
          NothingToResume: There is no turn to go on with.
        """
        plan = await self._plan(errand, run)
        async with self._session(errand.request, plan.ahead) as session:
            begun = await self._begin(plan, errand, run, session)
            # Thousands of turns may wait for their models at once: each keeps what it still needs.
            del plan
            turn, tally = begun.turn, begun.tally
            run.partial = turn.result_if_cancelled
            try:
                result = await turn.run()
            finally:
                # The turn refers to the run: while the run refers to the turn they keep each other, and all that is in both.
                run.partial = partial(_as_it_stood, turn.result_if_cancelled())
                await begun.subagents.aclose()  # noqa: ASYNC102 - shielded, and ends with their own shields
                if isinstance(session, OpenSession):
                    self.idle.note_use(errand.request.session_key)
                    if self._budgets.session is not None:
                        # Shielded, and bounded.
                        await note_spending(session, begun.spent, tally)  # noqa: ASYNC102
            self._learn(errand.selection.model, begun)
            return result

    async def _plan(self, errand: Errand, run: Run) -> TurnPlan:
        """Get ready for a turn what can be had before its session is open. Raises: as `carry_out`."""
        request, selection, lineage = errand.request, errand.selection, errand.lineage
        if run.trace is not None:
            run.trace.begun()
        started = trio.current_time()
        provider = self._provider(selection)
        toolset = await self._offered(selection, request, lineage)
        now = self._now()
        answer = _typed_answer(request, selection)
        if answer is not None and answer.tool is not None:
            toolset = toolset.with_tools([answer.tool])
        said = None if request.resumes else await self._said(request, now)
        tally = lineage.tally or Tally(estimate_by_length)
        run.partial = partial(_cancelled_before_turn, tally)
        prompt = self._prompt(selection)
        user = None if said is None else with_turn_note(said, _note(request, prompt, now))
        plan = TurnPlan(started, provider, toolset, answer, tally, prompt, user)
        if user is None or not self._may_go_ahead(request):
            return plan
        known = self.sessions.known(request.session_key)
        if known is None:  # probably a new one, which has nothing to be compacted
            plan.ahead = Ahead(None, user)
            return plan
        plan.known, plan.known_at = known, known.position
        plan.framed = await self._frame(errand, prompt, user, toolset, known)
        if not plan.framed.room.is_outgrown(known):
            plan.ahead = Ahead(known.position, user)
        return plan

    async def _begin(
        self,
        plan: TurnPlan,
        errand: Errand,
        run: Run,
        session: OpenSession | SessionOutOfReach | HistoryView,
    ) -> BegunTurn:
        """Make the turn, now that its session is open. Raises: as `carry_out`."""
        request, selection, lineage = errand.request, errand.selection, errand.lineage
        tally, user = plan.tally, plan.user
        spent = await self._spent(request, session)
        state = await self._open_turn(request, session, spent)
        if request.resumes and state is not None:
            tally.go_on_from(state.spent)
        view = session if isinstance(session, HistoryView) else session.view
        framed = plan.framed
        if framed is None or view is not plan.known or view.position != plan.known_at:
            framed = await self._frame(errand, plan.prompt, user, plan.toolset, view)
        purse = lineage.purse
        if not lineage.depth:
            purse = self._purse(request, selection, spent, tally)
        limits = self._limits_for(request, plan.started)
        match session:
            case OpenSession():
                if not (request.resumes or session.is_ahead):  # a turn is compacted as a whole
                    compactor = self._compactor(plan.provider, selection, framed, tally, purse)
                    limits = await _compacted(compactor, session, limits)
                history = session.history()
            case SessionOutOfReach():
                history = session.view
            case HistoryView():
                history = session
        hooks = request.hooks if lineage.depth else (*self._hooks, *request.hooks)
        subagents = Subagents(
            errand=errand,
            at_once=self._max_subagents,
            tally=tally,
            purse=purse,
            hooks=hooks,
            make=self._make_subagent,
            workspace=self._workspace,
            max_report_chars=limits.max_tool_result_chars,
        )
        approval = self._approval_for(request, may_park=isinstance(session, OpenSession))
        turn = Turn(
            TurnParts(
                provider=plan.provider,
                settings=ModelSettings(
                    model=selection.model,
                    max_tokens=selection.max_tokens,
                    temperature=selection.temperature,
                    reasoning_effort=selection.reasoning_effort,
                ),
                messages=_shown(history, framed.opening, user, framed.room.budget),
                toolset=plan.toolset
                if self._telemetry is None
                else traced(plan.toolset, self._telemetry),
                tool_context=RunContext(
                    confined=self._workspace,
                    deps=request.deps,
                    session_key=request.session_key,
                    channel=request.channel,
                    chat_id=request.chat_id,
                    sender_id=request.sender_id,
                    spawner=subagents,
                ),
                limits=limits,
                hooks=hooks,
                emit=run.events or NOBODY,
                journal=NO_JOURNAL if isinstance(session, HistoryView) else session,
                cross=cross_of(errand.runtime.home, errand.host, self._telemetry),
                approval=approval,
                # One that keeps nothing keeps nothing of what steers it.
                inbox=subagents
                if isinstance(session, HistoryView)
                else TurnInbox(subagents, self._steering, run),
                tally=tally,
                purse=purse,
                user_message=user,
                telemetry=self._telemetry,
                answer=plan.answer,
                model_preset=selection.preset,
                open_turn=state,
                resumes=request.resumes,
                opened=partial(self._opened, request, spent) if approval.can_park else OpenTurn,
                join_deltas=request.join_deltas,
            )
        )
        return BegunTurn(
            turn,
            subagents,
            tally,
            spent,
            estimated=min(history.tokens, framed.room.budget) + framed.tokens,
            requests=len(tally.attempts),
            counted=tally.usage.prompt_tokens,
        )

    async def steering_message(self, request: RunRequest, selection: ModelSelection) -> UserMessage:
        """What a run says that steers the turn of another, as it is stored.

        Raises:
          UsageError: A file that goes with the message cannot be read.
        """
        now = self._now()
        said = await self._said(request, now)
        return with_turn_note(said, _note(request, self._prompt(selection), now))

    @staticmethod
    async def _said(request: RunRequest, now: datetime) -> UserMessage:
        return await user_message(
            request.message, request.media, timestamp=now.isoformat(timespec="seconds")
        )

    def _subagent(self, errand: Errand) -> Run:
        """The run of a subagent: a turn like any other, with the model and the host of the run it is in."""
        run = Run(errand.request.session_key, partial(self.carry_out, errand))
        if self._telemetry is not None:
            follow(self._telemetry, run, errand.request, errand.selection)
        return run

    async def ingest(
        self,
        key: str,
        messages: Sequence[Message],
        metadata: Mapping[str, Any] | None,
        *,
        save: bool,
    ) -> SessionRecord:
        """Take a transcript into a session; see `_ingest.ingest`."""
        return await ingest(self.sessions, key, messages, metadata, save=save)

    async def compact_session(self, key: str, selection: ModelSelection) -> SessionRecord:
        """Compact a session if its history has outgrown the model's window, and return it.

        Raises: as `Compactor.compact`.
        """
        async with self.sessions.open(key) as session:
            await (await self._compactor_alone(selection)).compact(session)
            return await self.sessions.record(key)

    async def compact_idle_session(
        self, key: str, selection: ModelSelection, max_suffix: int
    ) -> str:
        """Summarize all of a session but its last messages, and return the summary; see `Compactor.compact_all_but`."""
        async with self.sessions.open(key) as session:
            return await (await self._compactor_alone(selection)).compact_all_but(
                session, max_suffix
            )

    def _may_go_ahead(self, request: RunRequest) -> bool:
        """Whether the user's message is the first thing that the run's turn would write to its session."""
        resumable = self._resumable if request.resumable is None else request.resumable
        keeps_more = resumable or self._budgets.session is not None
        if keeps_more or request.ephemeral or request.history is not None:
            return False
        return request.session_key not in self.sessions.unsaved

    async def _frame(
        self,
        errand: Errand,
        prompt: SystemPrompt,
        user: UserMessage | None,
        toolset: Toolset,
        view: HistoryView,
    ) -> TurnFrame:
        key, selection = errand.request.session_key, errand.selection
        count = await self._counter()
        opening = shown_messages("", (), user)
        if (system := await prompt.message()) is not None:
            opening.insert(0, system)
        before_user = len(opening) if user is None else len(opening) - 1
        opening[before_user:before_user] = _recent(prompt, key, selection, view)
        await count_ahead(opening, count)
        tokens = messages_tokens(opening, count) + self.tools.tokens_of(toolset, count)
        return TurnFrame(opening, tokens, count, self._room(selection, tokens))

    def _room(self, selection: ModelSelection, fixed_tokens: int) -> HistoryRoom:
        return HistoryRoom.of(
            selection,
            ratio=self._ratio,
            fixed_tokens=fixed_tokens,
            calibration=self._calibrations.get(selection.model, _UNCALIBRATED),
        )

    def _session(
        self, request: RunRequest, ahead: Ahead | None
    ) -> AbstractAsyncContextManager[OpenSession | SessionOutOfReach | HistoryView]:
        """The session, to be written to; only what is in it, or what was given in its place, if the run is ephemeral."""
        key = request.session_key
        if request.resumes:
            return self.sessions.open(key)
        if request.history is not None:
            return self.sessions.given(request.history)
        if request.ephemeral:
            return self.sessions.peek(key)
        return self.sessions.open_if_possible(key, ahead)

    async def _spent(
        self, request: RunRequest, session: OpenSession | SessionOutOfReach | HistoryView
    ) -> Spent:
        """What the session had spent before this turn began; looked up only where there is a budget for it."""
        if self._budgets.session is None:
            return Spent()
        noted = spent_by(await self.sessions.metadata(request.session_key))
        if not isinstance(session, OpenSession):
            return noted
        try:
            left = session.open_turn()
        except StoreError:  # whoever gives the turn up, or would go on with it, says so
            return noted
        return noted if left is None else spent_before(noted, left, goes_on=request.resumes)

    def _purse(
        self, request: RunRequest, selection: ModelSelection, spent: Spent, tally: Tally
    ) -> Purse | None:
        """What a run and its subagents may spend."""
        run = request.max_budget or self._budgets.run
        ratio = self._calibrations.get(selection.model, _UNCALIBRATED).ratio
        purse = purse_of(run, self._budgets.session, spent, selection, ratio=ratio)
        if purse is not None:
            purse.join(tally)
        return purse

    def _compactor(
        self,
        provider: Provider,
        selection: ModelSelection,
        framed: TurnFrame,
        tally: Tally,
        purse: Purse | None = None,
    ) -> Compactor:
        return Compactor(
            provider,
            selection,
            room=framed.room,
            count=framed.count,
            history_log=self._history_log,
            tally=tally,
            purse=purse,
            telemetry=self._telemetry,
        )

    def _provider(self, selection: ModelSelection) -> Provider:
        provider = self.providers.provider(selection)
        return provider if self._telemetry is None else TracedProvider(provider, self._telemetry)

    async def _compactor_alone(self, selection: ModelSelection) -> Compactor:
        """A compactor for a run without a turn."""
        count = await self._counter()
        opening = shown_messages(await self._prompt(selection).text(), ())
        tools = self.tools.tokens_of(self.tools.now, count) if selection.offers_tools else 0
        tokens = messages_tokens(opening, count) + tools
        return self._compactor(
            self._provider(selection),
            selection,
            TurnFrame(opening, tokens, count, self._room(selection, tokens)),
            Tally(estimate_by_length),
        )

    async def _offered(
        self, selection: ModelSelection, request: RunRequest, lineage: Lineage
    ) -> Toolset:
        if not selection.offers_tools:
            return Toolset()
        within_s = math.inf if request.timeout_s is None else request.timeout_s
        toolset = await self.tools.ready(request.tools, within_s)
        return toolset.without("spawn") if lineage.depth >= self._max_subagent_depth else toolset

    def _approval_for(self, request: RunRequest, *, may_park: bool) -> Approval:
        if request.approver is None and may_park == self._approval.may_park:
            return self._approval
        approver = self._approval.approver if request.approver is None else request.approver
        return replace(self._approval, approver=approver, may_park=may_park)

    def _opened(self, request: RunRequest, spent: Spent) -> OpenTurn:
        """What is kept of a turn that begins."""
        return OpenTurn(
            options=options_of(request),
            session_spent=None if self._budgets.session is None else (spent.tokens, spent.usd),
        )

    async def _open_turn(
        self,
        request: RunRequest,
        session: OpenSession | SessionOutOfReach | HistoryView,
        spent: Spent,
    ) -> OpenTurn | None:
        """What is kept of the turn while it is open. One that was left open is given up, unless this run goes on with it."""
        if not isinstance(session, OpenSession):
            return None
        if request.resumes:
            state = turn_to_resume(
                session.key, session.open_turn(), session.history().said, now=time.time()
            )
            return (
                state
                if state.options
                else replace(self._opened(request, spent), arrived=state.arrived)
            )
        if session.has_open_turn:
            try:
                await session.give_up_turn()
            except StoreError as error:
                _log.error("session %.200r: its open turn is lost: %s", session.key, error)
        resumable = self._resumable if request.resumable is None else request.resumable
        return self._opened(request, spent) if resumable else None

    def _learn(self, model: str, begun: BegunTurn) -> None:
        """Set what a service counted for one request against what was estimated, if the turn took only one."""
        tally = begun.tally
        only_one = len(tally.attempts) == begun.requests + 1 and not tally.estimated
        if not only_one or tally.attempts[-1].model != model:
            return
        if model not in self._calibrations and len(self._calibrations) >= _CALIBRATED_MODELS:
            self._calibrations.clear()
        known = self._calibrations.get(model, _UNCALIBRATED)
        reported = tally.usage.prompt_tokens - begun.counted
        self._calibrations[model] = known.updated(estimated=begun.estimated, reported=reported)

    def _limits_for(self, request: RunRequest, started: float) -> Limits:
        if request.max_iterations is None and request.timeout_s is None:
            return self._limits
        timeout_s = request.timeout_s
        return replace(
            self._limits,
            max_iterations=request.max_iterations or self._limits.max_iterations,
            timeout_s=timeout_s and max(started + timeout_s - trio.current_time(), 1e-9),
        )


def _typed_answer(request: RunRequest, selection: ModelSelection) -> TypedAnswer | None:
    if request.output is None:
        return None
    return TypedAnswer(
        request.output,
        retries=request.output_retries,
        offers_tools=selection.offers_tools,
        enforces_schemas=selection.enforces_schemas,
    )


def _note(request: RunRequest, prompt: SystemPrompt, now: datetime) -> str:
    return turn_note(
        now=now,
        channel=request.channel,
        chat_id=request.chat_id,
        sender_id=request.sender_id,
        compact=prompt.profile.compact_note,
    )


def _recent(
    prompt: SystemPrompt, key: str, selection: ModelSelection, view: HistoryView
) -> list[Message]:
    """What the session is shown of the workspace's history, before its own."""
    text = recent_history(
        prompt.history,
        key,
        known="" if view.compaction is None else view.compaction.summary,
        limit_tokens=recent_history_tokens(selection.context_window_tokens),
    )
    return [UserMessage(text)] if text else []


def _shown(
    history: HistoryView, opening: list[Message], user: UserMessage | None, budget: int
) -> list[Message]:
    """The messages of a turn's first request; of one that goes on, the user's message is in the history."""
    if user is not None:
        return history.shown(opening, budget)
    return history.shown([*opening, OPENING], budget)[:-1]


async def _compacted(compactor: Compactor, session: OpenSession, limits: Limits) -> Limits:
    """Compact the session if it must be, and return what is left of the run's limits for its turn."""
    if limits.timeout_s is None:
        await compactor.before_turn(session)
        return limits
    started = trio.current_time()
    with trio.move_on_after(limits.timeout_s):
        await compactor.before_turn(session)
    left_s = limits.timeout_s - (trio.current_time() - started)
    return replace(limits, timeout_s=max(left_s, 1e-9))  # the turn itself says that time is over


def _cancelled_before_turn(tally: Tally) -> RunResult:
    return RunResult(
        content="",
        usage=tally.usage.to_dict(),
        stop_reason="cancelled",
        error="The run was cancelled.",
        metadata=tally.to_metadata(),
    )


def _as_it_stood(result: RunResult) -> RunResult:
    return result
