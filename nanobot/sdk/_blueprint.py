"""What a bot's runtimes are made of, wherever they come to live."""

from __future__ import annotations

import logging
import weakref
from datetime import datetime
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

import trio

from actors import Home
from nanobot.agent import AgentHook, Budget, Limits
from nanobot.config import BudgetSettings, Config, state_folder
from nanobot.context import COMPACT, FULL, SystemPrompt
from nanobot.errors import StoreError
from nanobot.memory import HistoryLog
from nanobot.providers import Provider
from nanobot.runtime import (
    Budgets,
    OfferedTools,
    Providers,
    Runtime,
    Steering,
    TurnCounter,
    TurnMaker,
    retry_policy,
)
from nanobot.sessions import SessionStore, Unsaved
from nanobot.telemetry import Telemetry
from nanobot.tools import (
    Approval,
    Approver,
    Toolset,
    Workspace,
    plugin_tools,
    remove_old_results_soon,
    rules_without_a_tool,
)
from nanobot.tools.builtin import builtin_tools
from nanobot.tools.mcp import McpServers

__all__ = ["Blueprint"]

_log = logging.getLogger("nanobot.tools")
_sessions_log = logging.getLogger("nanobot.sessions")


class Blueprint:
    """Everything that stays the same when a bot moves to another loop: configuration, store, tools, hooks.

    It knows nothing of the bot, so that a living runtime does not keep a dropped bot alive.
    """

    def __init__(
        self,
        config: Config,
        workspace: Path,
        store: SessionStore,
        unsaved: Unsaved,
        toolset: Toolset,
        hooks: tuple[AgentHook, ...],
        approver: Approver | None,
        provider: Provider | None,
        telemetry: Telemetry | None,
    ) -> None:
        self._defaults = defaults = config.agents.defaults
        self._given = toolset
        self._mcp_servers = config.tools.mcp_servers
        self.overrides_are_exclusive = defaults.override_policy == "exclusive"
        self.turns = TurnCounter()
        self._store = store
        self._unsaved = unsaved
        self._hooks = hooks
        self._approval = Approval(
            approver,
            config.tools.approval,
            may_park=True,
            park_unattended=config.tools.park_for_approval,
            expires_s=config.tools.approval_expires_after_hours * 3600.0,
        )
        self._unwarned = config.tools.approval
        self._provider = provider
        self.telemetry = telemetry
        self._workspace = Workspace(
            workspace,
            restrict=config.tools.restrict_to_workspace is not False,
            forbidden=_forbidden(config),
        )
        self._limits = Limits(
            max_iterations=defaults.max_tool_iterations,
            max_tool_result_chars=defaults.max_tool_result_chars,
        )
        self._retry_policy = retry_policy(defaults)
        self._budgets = Budgets(_budget(defaults.max_budget), _budget(config.sessions.max_budget))
        self._ratio = defaults.consolidation_ratio
        self._zone = ZoneInfo(defaults.zone) if defaults.zone else None
        self.history_log = HistoryLog(workspace / "memory", now=self._now)
        self._makers: weakref.WeakKeyDictionary[Runtime, TurnMaker] = weakref.WeakKeyDictionary()

    @cached_property
    def toolset(self) -> Toolset:
        """What every run offers: the tools that the bot was given, and those of installed packages.

        These are looked for when they are first needed, which is not when a bot is made: importing them takes a while.
        """
        return self._given.with_tools(plugin_tools(self._given.names))

    def make_runtime(self, home: Home) -> Runtime:
        """A runtime in `home`, with connections of its own."""
        prompts = {
            profile.name: SystemPrompt(
                self._workspace.root, profile=profile, confined=self._workspace.restrict
            )
            for profile in (FULL, COMPACT)
        }
        servers = McpServers(self._mcp_servers, home=home, taken=self.toolset.names)
        steering = Steering()
        maker = TurnMaker(
            store=self._store,
            unsaved=self._unsaved,
            prompt=lambda selection: prompts[selection.prompt_profile],
            tools=OfferedTools(self.toolset, servers),
            hooks=self._hooks,
            approval=self._approval,
            workspace=self._workspace,
            limits=self._limits,
            max_subagents=self._defaults.max_concurrent_subagents,
            max_subagent_depth=self._defaults.max_subagent_depth,
            consolidation_ratio=self._ratio,
            history_log=self.history_log,
            now=self._now,
            providers=Providers(self._provider, self._retry_policy),
            steering=steering,
            resumable=self._defaults.resumable,
            budgets=self._budgets,
            telemetry=self.telemetry,
        )
        end = _End(maker.providers, servers, self._store)
        runtime = Runtime(
            home,
            on_start=self._remove_old_results,
            on_stop=end.stop,
            on_close=end.note_close,
            on_passing=maker.sessions.forget,
            max_concurrent_runs=self._defaults.max_concurrent_runs,
            max_queued_runs=self._defaults.max_queued_runs,
            steering=steering,
        )
        self._makers[runtime] = maker
        self._warn_of_rules_without_a_tool()
        return runtime

    async def _remove_old_results(self) -> None:
        """Results of tools that were kept as files are not kept for ever."""
        try:
            await remove_old_results_soon(self._workspace)
        except Exception:  # noqa: BLE001 - tidying up may fail in any way, and keeps no bot from working
            _log.exception("old results of tools could not be removed")

    def turn_maker(self, runtime: Runtime) -> TurnMaker:
        """What makes the turns of that runtime."""
        return self._makers[runtime]

    def _warn_of_rules_without_a_tool(self) -> None:
        """Say once that a rule guards nothing, for its tool may be spelled otherwise; a run may still bring it."""
        known = {*self.toolset.names, *(tool.spec.name for tool in builtin_tools())}
        unknown, self._unwarned = rules_without_a_tool(self._unwarned, known), {}
        if unknown:
            _log.warning("tools.approval: there is no tool called %s", ", ".join(unknown))

    def tools(self, runtime: Runtime | None) -> Toolset:
        """The tools that runs offer; those of MCP servers once they are known in that runtime."""
        maker = None if runtime is None else self._makers.get(runtime)
        return self.toolset if maker is None else maker.tools.now

    def _now(self) -> datetime:
        return datetime.now().astimezone() if self._zone is None else datetime.now(self._zone)


class _End:
    """What is closed with a runtime; and the store with the bot, which may outlive many runtimes."""

    def __init__(self, providers: Providers, servers: McpServers, store: SessionStore) -> None:
        self._providers = providers
        self._servers = servers
        self._store = store
        self._closing_bot = False

    def note_close(self) -> None:
        """It is the bot that is being closed."""
        self._closing_bot = True
        self._providers.give_up()

    async def stop(self) -> None:
        """Close connections and processes, and then perhaps the store."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._servers.aclose)
            nursery.start_soon(self._providers.aclose)
        if self._closing_bot:
            try:
                await self._store.aclose()
            except StoreError as error:
                _sessions_log.error("what was written last may not survive a power cut: %s", error)


def _budget(settings: BudgetSettings) -> Budget | None:
    if settings.tokens is None and settings.usd is None:
        return None
    return Budget(tokens=settings.tokens, usd=settings.usd)


def _forbidden(config: Config) -> tuple[Path, ...]:
    """What no tool may read, wherever the workspace lies: the configuration, for its keys, and the sessions."""
    path = config.path
    return () if path is None else (path, state_folder(path) / "sessions")
