"""From a request to a turn: the session's history, what the model is shown, and where it is written down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from msgspec.structs import replace

from actors import Home, Host, call_host
from nanobot.agent import (
    NO_JOURNAL,
    NOBODY,
    AgentHook,
    Journal,
    Limits,
    ModelSettings,
    RunResult,
    Turn,
    TurnParts,
)
from nanobot.context import (
    SystemPrompt,
    fit,
    history_budget,
    message_tokens,
    messages_tokens,
    shown_messages,
    tool_tokens,
    turn_note,
    user_message,
    with_turn_note,
)
from nanobot.messages import Message, UserMessage, repair
from nanobot.providers._select import ModelSelection
from nanobot.sessions import Lease, SessionRecord, SessionStore, open_lease, read_soon
from nanobot.tools import Cross, RunContext, Toolset, Workspace, run_here

from ._providers import Providers
from ._request import RunRequest
from ._run import Run

__all__ = ["TurnMaker"]


class TurnMaker:
    """What all runs of a bot have in common. One per runtime; `carry_out` is the body of each run.

    Args:
      store: Where sessions are kept.
      prompt: The system prompt of a profile.
      toolset: The tools of the bot.
      hooks: The hooks of the bot, which run before those of a run.
      workspace: The folder that tools may touch.
      limits: How far a turn may go unless its request says otherwise.
      now: The time, in the zone that the user lives in.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        prompt: Callable[[ModelSelection], SystemPrompt],
        toolset: Toolset,
        hooks: Sequence[AgentHook],
        workspace: Workspace,
        limits: Limits,
        now: Callable[[], datetime],
        providers: Providers,
    ) -> None:
        self._store = store
        self._prompt = prompt
        self._toolset = toolset
        self._hooks = tuple(hooks)
        self._workspace = workspace
        self._limits = limits
        self._tool_tokens = tool_tokens(toolset.specs)
        self._now = now
        self.providers = providers

    async def carry_out(
        self, run: Run, request: RunRequest, selection: ModelSelection, home: Home, host: Host
    ) -> RunResult:
        """Run one turn, in its session's actor.

        Raises:
          UsageError: A file that goes with the message cannot be read, or two tools have one name.
          ConfigError: The provider cannot be used.
          StoreError: The session cannot be read.
        """
        provider = self.providers.provider(selection)
        toolset = self._offered(selection, request)
        said = await user_message(
            request.message, request.media, timestamp=self._now().isoformat(timespec="seconds")
        )
        async with self._session(request) as (record, journal):
            prompt = self._prompt(selection)
            note = turn_note(
                now=self._now(),
                channel=request.channel,
                chat_id=request.chat_id,
                sender_id=request.sender_id,
                compact=prompt.profile.compact_note,
            )
            user = with_turn_note(said, note)
            system = await prompt.text()
            history = () if record is None else repair(record.messages).history
            turn = Turn(
                TurnParts(
                    provider=provider,
                    settings=ModelSettings(
                        model=selection.model,
                        max_tokens=selection.max_tokens,
                        temperature=selection.temperature,
                        reasoning_effort=selection.reasoning_effort,
                    ),
                    messages=self._shown(system, history, user, toolset, selection),
                    toolset=toolset,
                    tool_context=RunContext(
                        confined=self._workspace,
                        deps=request.deps,
                        session_key=request.session_key,
                        channel=request.channel,
                        chat_id=request.chat_id,
                        sender_id=request.sender_id,
                    ),
                    limits=self._limits_for(request),
                    hooks=(*self._hooks, *request.hooks),
                    emit=run.events or NOBODY,
                    journal=journal,
                    cross=_cross(home, host, run),
                    user_message=user,
                    model_preset=selection.preset,
                )
            )
            run.partial = lambda: turn.result("cancelled")
            return await turn.run()

    @asynccontextmanager
    async def _session(
        self, request: RunRequest
    ) -> AsyncIterator[tuple[SessionRecord | None, Journal]]:
        """The session as it stands, and where the turn is written down: nowhere, if it is ephemeral."""
        if request.ephemeral:
            yield await read_soon(self._store, request.session_key), NO_JOURNAL
        else:
            async with open_lease(self._store, request.session_key) as leased:
                yield leased.record, _StoreJournal(self._store, leased.lease)

    def _offered(self, selection: ModelSelection, request: RunRequest) -> Toolset:
        if not selection.offers_tools:
            return Toolset()
        return self._toolset.with_tools(request.tools) if request.tools else self._toolset

    def _shown(
        self,
        system: str,
        history: Sequence[Message],
        user: UserMessage,
        toolset: Toolset,
        selection: ModelSelection,
    ) -> list[Message]:
        """What the model is shown: as much of the history as fits, in whole turns, and always the user's message."""
        opening = shown_messages(system, (), user)
        if not history:
            return opening
        tools = self._tool_tokens if toolset is self._toolset else tool_tokens(toolset.specs)
        budget = history_budget(
            selection.context_window_tokens,
            selection.max_tokens,
            fixed_tokens=messages_tokens(opening) + tools,
        )
        window = fit(history, budget, message_tokens, current=len(history) - 1)
        return shown_messages(system, history[window.start :] if window.fits else (), user)

    def _limits_for(self, request: RunRequest) -> Limits:
        if request.max_iterations is None and request.timeout_s is None:
            return self._limits
        return replace(
            self._limits,
            max_iterations=request.max_iterations or self._limits.max_iterations,
            timeout_s=request.timeout_s,
        )


class _StoreJournal:
    """Writes a turn into its session, message by message as they become final."""

    def __init__(self, store: SessionStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease

    async def record(self, messages: Sequence[Message]) -> None:
        await self._store.append(self._lease, messages)


def _cross(home: Home, host: Host, run: Run) -> Cross:
    """The way from the engine to the caller's loop, in the caller's context."""
    if getattr(host, "local", False):
        return run_here
    context = run.call.context

    async def cross(function, /, *args):  # type: ignore[no-untyped-def]  # typed by the Protocol it fills
        return await call_host(home, host, context, function, *args)

    return cross
