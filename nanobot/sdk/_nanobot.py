"""The SDK object: one configured agent, to be used from any loop or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

import trio
from msgspec.structs import replace

from actors import CreditStream, Host, SyncHost, current_host, in_async_loop
from nanobot.agent import AgentHook, RunResult, StreamEvent
from nanobot.config import DIRECT_PRESET, Config, Environment, load_config, workspace_path
from nanobot.errors import ConfigError, InvalidArgument, UsageError
from nanobot.memory import Notes
from nanobot.providers import Provider
from nanobot.providers._select import ModelSelection, select_model, select_model_of
from nanobot.runtime import (
    DEFAULT_SESSION_KEY,
    OPEN_TURN,
    Errand,
    Run,
    RunOptions,
    RunRequest,
    Runtime,
    check_approver,
    check_names,
    checked_hooks,
    follow,
    make_request,
)
from nanobot.sessions import (
    SearchableStore,
    SessionStore,
    Unsaved,
    configured_store,
    signals_of,
)
from nanobot.telemetry import Telemetry, telemetry_from_environment
from nanobot.tools import Approver, Tool, Toolset
from nanobot.tools.builtin import builtin_tools

from ._approvals_client import ApprovalsClient
from ._blueprint import Blueprint
from ._engine import Engine
from ._event_stream import EventStream
from ._jobs import CONCURRENCY, Job, Jobs, Posted, Progress
from ._memory_client import MemoryClient
from ._resume_options import ResumeOptions, Slips, remembered_options
from ._run_many import RunMany, SyncRunMany
from ._run_stream import EventReader, RunStream
from ._runtime_client import RuntimeClient
from ._session_work import SessionWork
from ._sessions_client import SessionsClient
from ._statistics import read_statistics
from ._sync_stream import SyncEventStream

__all__ = ["Nanobot"]

T = TypeVar("T")


class Nanobot:
    """One configured agent. Make it with `Nanobot.from_config()`; close it with `aclose()`, `async with` or `with`.

    It may be used from several tasks, threads and event loops, at once or one after the other. Runs on one session key
    follow each other in the order they were started; runs on different keys overlap. Nothing lives in the background before
    the first run.

    Attributes:
      sessions: The conversations: `ingest`, `get`, `list`, `export`, `clear`, `delete`, `flush`, `restore`, `fork`, `search`.
      approvals: What parked turns wait for: `list`, `get`, `approve`, `deny`.
      memory: What outlives sessions: `read`, `write`, `append_history`, `read_history`.
      runtime: What runs: `model`, `presets`, `workspace`; `statistics`, `problem`; `connect`; `compact_session`,
        `compact_idle_session`, `compact_while_idle`.
    """

    def __init__(
        self,
        *,
        config: Config,
        env: Mapping[str, str],
        select: Callable[..., ModelSelection],
        selection: ModelSelection,
        workspace: Path,
        provider: Provider | None,
        store: SearchableStore,
        tools: Sequence[Tool],
        hooks: Sequence[AgentHook],
        approver: Approver | None,
        telemetry: Telemetry | None,
    ) -> None:
        """Use `Nanobot.from_config()`."""
        self._select = select
        self._selection = selection
        self._store = store
        unsaved = Unsaved()
        toolset = Toolset(builtin_tools(config.tools, env=env)).with_tools(tools)
        if not config.agents.defaults.max_subagent_depth:
            toolset = toolset.without("spawn")
        self._blueprint = Blueprint(
            config,
            workspace,
            self._store,
            unsaved,
            toolset,
            tuple(hooks),
            approver,
            provider,
            telemetry,
        )
        self._engine = Engine(self._blueprint.make_runtime, self._store)
        work = SessionWork(self._engine, self._blueprint)
        self.sessions = SessionsClient(work, self._store, unsaved, self._blueprint.history_log)
        signals_of(self._store).on_cancel(work.cancel_if_here())
        self.approvals = ApprovalsClient(self._store)
        self.memory = MemoryClient(Notes(workspace / "memory"), self._blueprint.history_log)
        self.runtime = RuntimeClient(
            SessionWork(self._engine, self._blueprint),
            selection,
            workspace,
            self._store,
            partial(read_statistics, self._engine, self._blueprint),
            presets=(DIRECT_PRESET, *config.model_presets),
            idle_compact_after_minutes=config.agents.defaults.idle_compact_after_minutes,
        )

    @classmethod
    def from_config(
        cls,
        config_path: str | os.PathLike[str] | None = None,
        *,
        workspace: str | os.PathLike[str] | None = None,
        model: str | None = None,
        model_preset: str | None = None,
        provider: Provider | None = None,
        store: SearchableStore | None = None,
        tools: Sequence[Tool] = (),
        hooks: Sequence[AgentHook] = (),
        approver: Approver | None = None,
        telemetry: Telemetry | Literal[False] | None = None,
    ) -> Self:
        """Make a bot from a configuration file. Reads the file and creates the workspace; starts nothing.

        Args:
          config_path: The file; default `~/.nanobot/config.json`, which may be missing.
          workspace: The folder that tools work in, instead of the configured one.
          model: The bot's model, instead of the configured one. The provider is found anew.
          model_preset: The bot's preset, instead of the configured one. Not together with `model`.
          provider: A provider object to ask instead of the configured service, for tests and for services of your own. No
            configured one has to have a key then; `model` is what yours is asked for.
          store: Where to keep sessions, instead of the configured store; closed with the bot. A test on a virtual clock
            passes `nanobot.sessions.InMemoryStore()`: waiting for a disk takes no time on such a clock.
          tools: Further tools for every run.
          hooks: Hooks for every run, before those of the run itself.
          approver: Who decides on calls of tools that need approval, unless a run brings its own; without anybody they
            are denied. A function of one `ApprovalRequest`, async or not, that returns True or `Approved()`, False or
            `Denied(reason)`. It runs where hooks run: in the loop, thread and context of whoever started the run.
          telemetry: Who is told of runs while they run, such as `nanobot.telemetry.OpenTelemetry()`; None for what the
            configuration says, which is nobody by default and costs nothing; False for nobody in any case.

        Raises:
          InvalidArgument: Both `model` and `model_preset` were given, or an argument is not what it should be, such as a hook
            that is no `AgentHook` (a `ValueError`; before any I/O).
          FileNotFoundError: There is no file at an explicit `config_path`.
          UnknownPreset: The preset is not configured (a `KeyError`).
          ConfigError: The configuration cannot be used (a `ValueError`), the workspace cannot be made, or sessions would
            lie inside it.
        """
        if model is not None and model_preset is not None:
            raise InvalidArgument("model and model_preset are mutually exclusive")
        check_names(model=model, model_preset=model_preset)
        check_approver(approver)
        hooks = checked_hooks(hooks)
        _check_objects(provider, store, telemetry)
        env = Environment(os.environ)
        config = load_config(None if config_path is None else Path(config_path), env=env)
        select = _selector(provider, config, env)
        selection = select(model=model, model_preset=model_preset)
        if telemetry is None:
            telemetry = _telemetry(config)
        if provider is None and selection.kind == "local":
            _require_embedded_model()
        if workspace is None:
            folder = workspace_path(config.agents.defaults.workspace, env)
        else:
            folder = workspace_path(os.fspath(workspace), env, name="workspace")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            there = isinstance(error, FileExistsError)
            reason = "it is there, and no folder" if there else error.strerror
            raise ConfigError(f"The workspace {folder} cannot be made: {reason}") from error
        return cls(
            config=config,
            env=env,
            select=select,
            selection=selection,
            workspace=folder,
            provider=provider,
            store=configured_store(config, folder) if store is None else store,
            tools=tools,
            hooks=hooks,
            approver=approver,
            telemetry=None if telemetry is False else telemetry,
        )

    @property
    def tools(self) -> Toolset:
        """The tools that every run offers to the model. Those of MCP servers are among them once the servers have been
        started, by the first run or by `await bot.runtime.connect()`.
        """
        return self._blueprint.tools(self._engine.runtime)

    @overload
    async def run(
        self, message: str, *, output_type: None = None, **options: Unpack[RunOptions]
    ) -> RunResult: ...
    @overload
    async def run(
        self, message: str, *, output_type: type[T], **options: Unpack[RunOptions]
    ) -> RunResult[T]: ...
    @overload
    async def run(
        self, message: str, *, output_type: Any, **options: Unpack[RunOptions]
    ) -> RunResult[Any]: ...
    async def run(
        self, message: str, *, output_type: Any = None, **options: Unpack[RunOptions]
    ) -> RunResult[Any]:
        """Run the agent once and return its result.

        A model or provider that failed is a result too, with `error` set. The keyword arguments are described at `RunOptions`.

        Args:
          message: What the user says.
          output_type: The type that the answer is to have, as `result.output`: a msgspec Struct, a dataclass, a TypedDict, a
            pydantic model, or a list, dict, Literal or union of such. A wrong answer is sent back to the model
            `output_retries` times; then the run has failed, and `metadata["raw_output"]` is what the model said.

        Raises:
          InvalidArgument, UnknownPreset, UsageError: The call cannot be meant like this.
          BotClosed: The bot was closed.
          SessionBusy: The session has another run, and `on_busy` is "reject"; or too many wait for it already.
          Exception: A bug, or a hook that reraises.

        Cancellation: the run is cancelled with its caller, who gets out when nothing of the run is alive.
        """
        request, selection = self._request(message, options, output_type)
        runtime = self._engine.open()
        return await self._engine.run(
            runtime, self._make_run(runtime, request, selection, None, None)
        )

    @overload
    async def run_streamed(
        self, message: str, *, output_type: None = None, **options: Unpack[RunOptions]
    ) -> RunStream: ...
    @overload
    async def run_streamed(
        self, message: str, *, output_type: type[T], **options: Unpack[RunOptions]
    ) -> RunStream[T]: ...
    @overload
    async def run_streamed(
        self, message: str, *, output_type: Any, **options: Unpack[RunOptions]
    ) -> RunStream[Any]: ...
    async def run_streamed(
        self, message: str, *, output_type: Any = None, **options: Unpack[RunOptions]
    ) -> RunStream[Any]:
        """Start a run and return a handle on it. Takes and raises the same as `run`."""
        request, selection = self._request(message, options, output_type)
        runtime, run, stream = self._start(request, selection)
        return RunStream(self._engine, runtime, run, stream)

    def stream(
        self, message: str, *, output_type: Any = None, **options: Unpack[RunOptions]
    ) -> EventStream:
        """Iterate over the events of a run, which starts with the first. Takes the same as `run`.

        Leaving the iteration early cancels the run. Raises as `run` does; what only the run can tell, after `run.failed`.
        """
        request, selection = self._request(message, options, output_type)

        def start() -> EventReader:
            runtime, run, stream = self._start(request, selection)
            return EventReader(self._engine, runtime, run, stream)

        return EventStream(start)

    @overload
    def run_sync(
        self, message: str, *, output_type: None = None, **options: Unpack[RunOptions]
    ) -> RunResult: ...
    @overload
    def run_sync(
        self, message: str, *, output_type: type[T], **options: Unpack[RunOptions]
    ) -> RunResult[T]: ...
    @overload
    def run_sync(
        self, message: str, *, output_type: Any, **options: Unpack[RunOptions]
    ) -> RunResult[Any]: ...
    def run_sync(
        self, message: str, *, output_type: Any = None, **options: Unpack[RunOptions]
    ) -> RunResult[Any]:
        """Run the agent once, blocking; for programs without an event loop. Takes and raises the same as `run`.

        Async hooks and tools run in this thread, in an asyncio loop. Ctrl-C cancels the run, waits for its end, and is raised.
        """
        request, selection = self._request(message, options, output_type)
        runtime, host = self._open_sync("run_sync", "run")
        try:
            return self._engine.run_sync(
                runtime, self._make_run(runtime, request, selection, None, host), host
            )
        finally:
            host.close()

    @overload
    def stream_sync(
        self, message: str, *, output_type: None = None, **options: Unpack[RunOptions]
    ) -> SyncEventStream: ...
    @overload
    def stream_sync(
        self, message: str, *, output_type: type[T], **options: Unpack[RunOptions]
    ) -> SyncEventStream[T]: ...
    @overload
    def stream_sync(
        self, message: str, *, output_type: Any, **options: Unpack[RunOptions]
    ) -> SyncEventStream[Any]: ...
    def stream_sync(
        self, message: str, *, output_type: Any = None, **options: Unpack[RunOptions]
    ) -> SyncEventStream[Any]:
        """Iterate over the events of a run, blocking. Takes the same as `run`. Leaving early cancels the run."""
        request, selection = self._request(message, options, output_type)
        runtime, host = self._open_sync("stream_sync", "stream")
        runtime, run, stream = self._start(request, selection, host)
        return SyncEventStream(self._engine, runtime, run, stream, host)

    async def resume(
        self, session_key: str = DEFAULT_SESSION_KEY, **options: Unpack[ResumeOptions]
    ) -> RunResult:
        """Go on with the turn of a session that was parked for an approval, or interrupted by a crash, and return its result.

        What has been decided is carried out: an approved call is run, a denied one is not, and no call that has ended is run
        again. A call that may have run and nobody knows is run again only if its tool is `idempotent` or only reads; of
        any other the model is told that it was interrupted. How much is known after a crash depends on `resumable`: see
        docs/approval.md. The run has the channel, sender, model and `max_iterations` of the one that began the turn;
        what lives in a program has to be given again.

        Args:
          session_key: The session.
          **options: `hooks`, `tools`, `deps`, `approver`, `timeout_s`, `max_iterations`, `max_budget`, `model`,
            `model_preset`, `tenant`, `output_type` and `output_retries`, as for `run`.

        Raises:
          NothingToResume: There is no such turn, or nobody has decided yet what it waits for.
          StoreError: The session cannot be read.
          BotClosed, UsageError: As `run`.

        Cancellation: as `run`.
        """
        runtime = self._engine.open()
        stored = await self._engine.look_up(
            runtime, partial(_open_turns_soon, self._store, session_key)
        )
        request, selection = self._resume_request(session_key, stored, options)
        return await self._engine.run(
            runtime, self._make_run(runtime, request, selection, None, None)
        )

    async def resume_streamed(
        self, session_key: str = DEFAULT_SESSION_KEY, **options: Unpack[ResumeOptions]
    ) -> RunStream:
        """`resume`, with a handle on the run as from `run_streamed`."""
        runtime = self._engine.open()
        stored = await self._engine.look_up(
            runtime, partial(_open_turns_soon, self._store, session_key)
        )
        request, selection = self._resume_request(session_key, stored, options)
        runtime, run, stream = self._start(request, selection)
        return RunStream(self._engine, runtime, run, stream)

    def resume_sync(
        self, session_key: str = DEFAULT_SESSION_KEY, **options: Unpack[ResumeOptions]
    ) -> RunResult:
        """Blocking `resume`, for programs without an event loop."""
        runtime, host = self._open_sync("resume_sync", "resume")
        try:
            stored = self._store.list_slips(OPEN_TURN, key=session_key)
            request, selection = self._resume_request(session_key, stored, options)
            return self._engine.run_sync(
                runtime, self._make_run(runtime, request, selection, None, host), host
            )
        finally:
            host.close()

    def resume_stream_sync(
        self, session_key: str = DEFAULT_SESSION_KEY, **options: Unpack[ResumeOptions]
    ) -> SyncEventStream:
        """`resume`, as an iterator over the events, as `stream_sync` gives for a run."""
        runtime, host = self._open_sync("resume_stream_sync", "resume_streamed")
        stored = self._store.list_slips(OPEN_TURN, key=session_key)
        request, selection = self._resume_request(session_key, stored, options)
        runtime, run, stream = self._start(request, selection, host)
        return SyncEventStream(self._engine, runtime, run, stream, host)

    def run_many(
        self,
        jobs: Iterable[str | Job],
        *,
        concurrency: int = CONCURRENCY,
        on_progress: Callable[[Progress], object] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunMany:
        """Run many jobs, so many at once, and iterate over their outcomes as they come.

            async for outcome in bot.run_many(questions, concurrency=20):
                print(outcome.index, outcome.result.content if outcome.ok else outcome.error)

        A job that fails, or raises, is an outcome like any other and stops nobody. `await bot.run_many(…).results()` gives all
        of them in the order of the jobs.

        Args:
          jobs: Messages, or dicts of a `message` and keyword arguments of `run`. They are taken one by one, when there is room.
          concurrency: How many runs go on at once.
          on_progress: A plain function that is called for each outcome, in the loop of whoever iterates, right before the
            outcome is handed out. What it raises ends the iteration.
          **options: As for `run`, for all jobs; those of a job go before them. A job without a `session_key` has a session
            of its own: see `JobOutcome.session_key`.

        Raises:
          InvalidArgument: `concurrency` is not at least 1, or `jobs` is one message.

        Cancellation: leaving the iteration early cancels what runs, as does `aclose()`, which waits for the end of it.
        """
        return RunMany(
            self._engine, Jobs(jobs, options, concurrency, on_progress, partial(self._post, None))
        )

    def run_many_sync(
        self,
        jobs: Iterable[str | Job],
        *,
        concurrency: int = CONCURRENCY,
        on_progress: Callable[[Progress], object] | None = None,
        **options: Unpack[RunOptions],
    ) -> SyncRunMany:
        """Blocking `run_many`, for programs without an event loop."""
        _, host = self._open_sync("run_many_sync", "run_many")
        return SyncRunMany(
            self._engine,
            Jobs(jobs, options, concurrency, on_progress, partial(self._post, host)),
            host,
        )

    async def aclose(self, *, drain_s: float = 0.0) -> None:
        """Close the bot: refuse new runs, give the live ones `drain_s` seconds, cancel the rest, close connections and
        processes, and return when nothing of the bot is alive. Idempotent. Sessions can still be read.

        Called by a tool or a hook of a run of this bot, it returns at once: that has to end first.
        """
        await self._engine.aclose(drain_s)

    def close(self, *, drain_s: float = 0.0) -> None:
        """Blocking `aclose`, for programs without an event loop."""
        self._engine.close_sync(drain_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _request(
        self, message: str, options: RunOptions, output_type: Any
    ) -> tuple[RunRequest, ModelSelection]:
        request = make_request(message, options, output_type)
        if request.model is None and request.model_preset is None:
            return request, self._selection
        return request, self._select(model=request.model, model_preset=request.model_preset)

    def _resume_request(
        self, key: str, stored: Slips, options: ResumeOptions
    ) -> tuple[RunRequest, ModelSelection]:
        unknown = options.keys() - ResumeOptions.__annotations__.keys()
        if unknown:
            known = ", ".join(sorted(ResumeOptions.__annotations__))
            raise TypeError(f"unknown argument {sorted(unknown)[0]!r}; there are: {known}")
        kept = remembered_options(stored)
        if options.get("model") is not None or options.get("model_preset") is not None:
            kept = {name: kept[name] for name in kept if name not in ("model", "model_preset")}
        merged: dict[str, Any] = {**kept, **options, "session_key": key}
        output_type = merged.pop("output_type", None)
        request, selection = self._request("", merged, output_type)  # type: ignore[arg-type]  # checked there
        return replace(request, resumes=True), selection

    def _start(
        self, request: RunRequest, selection: ModelSelection, host: Host | None = None
    ) -> tuple[Runtime, Run, CreditStream[StreamEvent]]:
        runtime = self._engine.open()
        stream = CreditStream[StreamEvent]()
        run = self._make_run(runtime, request, selection, stream, host)
        stream.may_wait = lambda: not runtime.contended(run)
        self._engine.post(runtime, run)
        return runtime, run, stream

    def _post(self, host: Host | None, message: str, options: RunOptions) -> Posted:
        """Start a run whose events nobody reads."""
        given: dict[str, Any] = {**options}
        output_type = given.pop("output_type", None)  # a job may have one, see `Job`
        request, selection = self._request(message, given, output_type)  # type: ignore[arg-type]  # checked there
        runtime = self._engine.open()
        run = self._make_run(runtime, request, selection, None, host)
        self._engine.post(runtime, run)
        return Posted(runtime, run)

    def _make_run(
        self,
        runtime: Runtime,
        request: RunRequest,
        selection: ModelSelection,
        stream: CreditStream[StreamEvent] | None,
        host: Host | None,
    ) -> Run:
        maker = self._blueprint.turn_maker(runtime)
        errand = Errand(
            request,
            selection,
            runtime,
            current_host(runtime.home) if host is None else host,
        )
        run = Run(
            request.session_key,
            partial(maker.carry_out, errand),
            exclusive=self._blueprint.overrides_are_exclusive
            and (request.model is not None or request.model_preset is not None),
            stream=stream,
            on_busy=request.on_busy,
            tenant=request.tenant,
            said=partial(maker.steering_message, request, selection)
            if request.on_busy == "steer"
            else None,
            counter=self._blueprint.turns,
        )
        if self._blueprint.telemetry is not None:
            follow(self._blueprint.telemetry, run, request, selection)
        return run

    def _open_sync(self, name: str, instead: str) -> tuple[Runtime, SyncHost]:
        if in_async_loop():
            raise UsageError(
                f"{name}() would block the event loop here; use `await bot.{instead}(...)`"
            )
        return self._engine.open(), SyncHost()


async def _open_turns_soon(store: SessionStore, key: str) -> Slips:
    """Read what is kept of a session's open turn, in a thread only if the store blocks."""
    if not isinstance(key, str):
        raise InvalidArgument(f"session_key must be a string, not {type(key).__name__}")
    if not store.blocks:
        return store.list_slips(OPEN_TURN, key=key)
    return await trio.to_thread.run_sync(
        partial(store.list_slips, OPEN_TURN, key=key), abandon_on_cancel=True
    )


def _check_objects(provider: object, store: object, telemetry: object) -> None:
    if not (provider is None or _has(provider, "open")):
        raise InvalidArgument(
            f"provider must be an object with open() and aclose(), not {provider!r:.200}; a service that is configured is named"
            " with the model, as in model='openai/gpt-4.1'"
        )
    if not (store is None or _has(store, "acquire_lease")):
        raise InvalidArgument(
            f"store must be a SessionStore, such as nanobot.sessions.InMemoryStore(), not {store!r:.200}; the ones that can be"
            " configured are named in the configuration, by sessions.store"
        )
    if not (telemetry is None or telemetry is False or _has(telemetry, "span")):
        raise InvalidArgument(
            f"telemetry must be a Telemetry, such as nanobot.telemetry.OpenTelemetry(), or False, not {telemetry!r:.200}"
        )


def _has(given: object, method: str) -> bool:
    """Whether it is an object with such a method, and not a class of such."""
    return not isinstance(given, type) and callable(getattr(given, method, None))


def _selector(
    provider: Provider | None, config: Config, env: Mapping[str, str]
) -> Callable[..., ModelSelection]:
    """What decides which model to ask, given `model` or `model_preset`."""
    if provider is None:
        return partial(select_model, config, env=env)
    return partial(select_model_of, provider.name, config, env=env)


def _telemetry(config: Config) -> Telemetry | None:
    """Who the configuration wants to be told of runs."""
    settings = config.telemetry
    if not settings.enabled:
        return None
    return telemetry_from_environment(
        capture_content=settings.capture_content, content_limit=settings.content_limit
    )


def _require_embedded_model() -> None:
    """Say now, and not in the first run, that the embedded model is not installed."""
    # deferred: only a bot that was given no other model needs it
    from nanobot.providers.local import INSTALL_COMMAND, missing_wheels

    if missing := missing_wheels():
        raise ConfigError(
            "No model is configured, and the embedded one cannot answer: it lacks"
            f" {' and '.join(missing)} (the extra `local`: {INSTALL_COMMAND}). Or set a provider's key, such as"
            " ANTHROPIC_API_KEY or OPENAI_API_KEY, or name a model in the configuration."
        )
