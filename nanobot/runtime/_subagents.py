"""The subagents of one run: runs inside it that work on one task each, and end before it does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import uuid4

import trio
from msgspec import Struct
from msgspec.structs import replace

from actors import CallCancelled, Host, Stopped
from nanobot.agent import AgentHook, AgentHookContext, HookOutcome, HookToolCall, Purse, Tally
from nanobot.errors import ToolError
from nanobot.messages import Message, UserMessage
from nanobot.providers._select import ModelSelection
from nanobot.tools import RunContext, Workspace, bounded

from ._request import RunRequest
from ._run import Run

if TYPE_CHECKING:
    from ._runtime import Runtime

__all__ = ["ROOT", "Errand", "Lineage", "Places", "Subagents"]

MOST_AT_ONCE: Final = 64
"""Subagents of one run that work or wait for a place. A model that starts more has lost count, and is told so."""

_TASK: Final = """[from nanobot] You are a subagent: another agent gave you the task below. Work on it on your own, for nobody \
answers questions. Your last message goes to that agent as it is: say what you did and found, with all it needs to go on.

{task}"""

_REPORT: Final = """[from nanobot, not from the user] The subagent {label!r} ({id}) that you started {ended}.

{text}"""


class Places:
    """How many subagents of one run, and of those inside it, work at the same time. Lives in the engine.

    Args:
      limit: That many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0
        self._queue: deque[tuple[Run, Callable[[Run], object]]] = deque()

    @property
    def free(self) -> bool:
        """Whether a subagent would start at once."""
        return self._taken < self.limit

    def start(self, run: Run, submit: Callable[[Run], object]) -> bool:
        """Submit a run as soon as there is a place for it, unless it settles before that; return whether that is now."""
        at_once = self.free and not self._queue
        self._queue.append((run, submit))
        self._fill()
        return at_once

    def _fill(self) -> None:
        while self._queue and self.free:
            run, submit = self._queue.popleft()
            if not run.settled:  # else it was cancelled while it waited
                self._taken += 1
                run.call.on_settled(self._leave)
                submit(run)

    def _leave(self) -> None:
        self._taken -= 1
        self._fill()


class Lineage(Struct, frozen=True, eq=False):
    """What a run inherits from the one that started it as a subagent.

    Attributes:
      depth: How many runs it is inside of; 0 for a run that somebody asked for.
      places: The places of the root's subagents; None for a root.
      tally: Counts what the run costs; None for a new one.
      purse: What the root and all inside it may spend together; None if nothing bounds it.
    """

    depth: int = 0
    places: Places | None = None
    tally: Tally | None = None
    purse: Purse | None = None


ROOT: Final = Lineage()


class Errand(Struct, frozen=True, eq=False):
    """A turn that is to be run, with what its subagents' turns have in common with it.

    Attributes:
      request: What was asked.
      selection: Which model answers, and how.
      runtime: What runs it.
      host: Where the caller lives.
      lineage: What it inherits if it is a subagent's.
    """

    request: RunRequest
    selection: ModelSelection
    runtime: Runtime
    host: Host
    lineage: Lineage = ROOT


class _Report(NamedTuple):
    ok: bool
    ended: str
    text: str


class _Subagent:
    """One of them, from when it is started."""

    def __init__(self, id_: str, label: str, run: Run, tally: Tally, *, awaited: bool) -> None:
        self.id = id_
        self.label = label
        self.run = run
        self.tally = tally
        self.awaited = awaited
        self.at_once = False
        self.ended = trio.Event()

    def report(self) -> _Report:
        """What became of it, once it has ended."""
        try:
            result = self.run.call.result()
        except (CallCancelled, Stopped) as error:
            return _Report(False, f"was ended ({error})", "")
        except Exception as error:  # noqa: BLE001 - a bug, or a hook, in a run of its own: for the model, a failure
            return _Report(False, f"failed ({type(error).__name__})", "")
        if result.error is not None:
            return _Report(False, f"failed ({result.error})", result.content)
        if result.stop_reason == "max_iterations":
            return _Report(True, "used up all its tool calls", result.content)
        return _Report(True, "has finished", result.content)


class Subagents:
    """Starts subagents for one run, hands their results to its turn, and ends them with it.

    A subagent is a run inside the run, on a session of its own that leaves no trace: it shares the outer run's hold of
    the lock, its model, tools, workspace, `deps`, approver and limits. It is cancelled when the outer run ends, whatever
    the reason. For the run's tools it is a `Spawner`, for its turn an `Inbox`.

    Args:
      errand: The outer run's own.
      at_once: How many work at the same time, if it is not a subagent's itself: those share the places of the first.
      tally: Counts what the outer run costs, and what its subagents do.
      purse: What all of them may spend together; None if nothing bounds it.
      hooks: The hooks of the outer run.
      make: Makes the run of a subagent, in the context of the caller.
      workspace: Where a report that is too long is kept whole.
      max_report_chars: How long that is.
    """

    __slots__ = (
        "_alive",
        "_arrived",
        "_at_once",
        "_closed",
        "_errand",
        "_hooks",
        "_make",
        "_max_report_chars",
        "_own_places",
        "_purse",
        "_tally",
        "_workspace",
    )

    def __init__(
        self,
        *,
        errand: Errand,
        at_once: int,
        tally: Tally,
        purse: Purse | None,
        hooks: Sequence[AgentHook],
        make: Callable[[Errand], Run],
        workspace: Workspace,
        max_report_chars: int,
    ) -> None:
        self._errand = errand
        self._at_once = at_once
        self._own_places: Places | None = None
        self._tally = tally
        self._purse = purse
        self._hooks = tuple(hooks)
        self._make = make
        self._workspace = workspace
        self._max_report_chars = max_report_chars
        self._alive: dict[_Subagent, None] = {}  # insertion-ordered
        self._arrived: dict[_Subagent, None] = {}
        self._closed = False

    async def spawn(self, task: str, label: str, *, wait: bool) -> str:
        """Give a task to a subagent; see `Spawner.spawn`."""
        self._refuse_if_too_many()
        subagent = self._start(task, label.strip() or _label_of(task), awaited=wait)
        if not wait:
            when = "works on it" if subagent.at_once else "waits for others to end first"
            return f"The subagent {subagent.label!r} ({subagent.id}) {when}. You are shown its result when it is there."
        await subagent.ended.wait()
        report = subagent.report()
        if report.ok:
            return report.text
        said = f" It had said:\n\n{report.text}" if report.text else ""
        raise ToolError(f"The subagent {report.ended}.{said}")

    @property
    def ready(self) -> bool:
        """Whether one has ended that the model was not told of; see `Inbox`."""
        return bool(self._arrived)

    @property
    def expecting(self) -> bool:
        """Whether the model has not been shown yet what one of them found; see `Inbox`."""
        return bool(self._arrived) or any(not subagent.awaited for subagent in self._alive)

    async def take(self) -> Sequence[Message]:
        """What those found that have ended, as one message each; see `Inbox.take`."""
        messages: list[Message] = []
        while self._arrived:
            subagent = next(iter(self._arrived))
            report = subagent.report()
            context = RunContext(
                confined=self._workspace, session_key=self._errand.request.session_key
            )
            text = await bounded(
                report.text or "(It said nothing.)", subagent.id, context, self._max_report_chars
            )
            shown = _REPORT.format(
                label=subagent.label, id=subagent.id, ended=report.ended, text=text
            )
            metadata = {"injected_event": "subagent_result", "subagent_task_id": subagent.id}
            messages.append(UserMessage(shown, metadata=metadata))
            del self._arrived[subagent]
        return messages

    async def wait(self) -> None:
        """Return when all have ended; see `Inbox.wait`."""
        for subagent in tuple(self._alive):
            await subagent.ended.wait()

    async def aclose(self) -> None:
        """Cancel all, and return when nothing of them is alive; see `Inbox.aclose`."""
        self._closed = True
        if not self._alive:
            return
        for subagent in tuple(self._alive):
            subagent.run.call.cancel()
        with trio.CancelScope(shield=True):
            await self.wait()

    @property
    def _places(self) -> Places:
        """The places, made when the first subagent comes: most turns have none."""
        if self._errand.lineage.places is not None:
            return self._errand.lineage.places
        if self._own_places is None:
            self._own_places = Places(self._at_once)
        return self._own_places

    def _refuse_if_too_many(self) -> None:
        if self._closed:
            raise ToolError("The run is ending; no subagent can be started any more.")
        if len(self._alive) >= MOST_AT_ONCE:
            raise ToolError(
                f"{MOST_AT_ONCE} subagents are at work or waiting; wait for their results."
            )
        if self._errand.lineage.depth > 0 and not self._places.free:
            # It might wait for the place of a subagent that waits for it.
            raise ToolError(
                f"All {self._places.limit} places for subagents are taken; do the task yourself."
            )

    def _start(self, task: str, label: str, *, awaited: bool) -> _Subagent:
        id_ = uuid4().hex[:8]
        tally = self._tally.another()
        request = replace(
            self._errand.request,
            message=_TASK.format(task=task),
            session_key=f"{self._errand.request.session_key}/subagent/{id_}",
            media=(),
            ephemeral=True,
            hooks=tuple(
                hook if isinstance(hook, _Inside) else _Inside(hook) for hook in self._hooks
            ),
            output=None,
            timeout_s=None,  # the outer run's ends it too
        )
        depth = self._errand.lineage.depth + 1
        lineage = Lineage(depth, self._places, tally, self._purse)
        run = self._make(replace(self._errand, request=request, lineage=lineage))
        subagent = _Subagent(id_, label, run, tally, awaited=awaited)
        self._alive[subagent] = None
        self._tally.join(tally)
        if self._purse is not None:
            self._purse.join(tally)
        run.call.on_settled(lambda: self._ended(subagent))
        subagent.at_once = self._places.start(run, self._errand.runtime.submit)
        return subagent

    def _ended(self, subagent: _Subagent) -> None:
        del self._alive[subagent]
        self._tally.include(subagent.tally)
        if self._purse is not None:
            self._purse.leave(subagent.tally)
        if not (subagent.awaited or self._closed):
            self._arrived[subagent] = None
        subagent.ended.set()


class _Inside(AgentHook):
    """A hook of the outer run, as it sees a subagent: its iterations and its tools, so that what guards or counts them
    misses none; not its beginning and end, its stream and its answer, which are not the user's.
    """

    def __init__(self, hook: AgentHook) -> None:
        super().__init__(reraise=bool(getattr(hook, "reraise", False)))
        self._hook = self.wrapped = hook

    def before_iteration(self, context: AgentHookContext) -> HookOutcome:
        return self._hook.before_iteration(context)

    def before_execute_tools(self, context: AgentHookContext) -> HookOutcome:
        return self._hook.before_execute_tools(context)

    def before_execute_tool(self, context: AgentHookContext, call: HookToolCall) -> HookOutcome:
        return self._hook.before_execute_tool(context, call)

    def after_execute_tool(
        self, context: AgentHookContext, call: HookToolCall, result: str, outcome: str
    ) -> HookOutcome:
        return self._hook.after_execute_tool(context, call, result, outcome)

    def after_iteration(self, context: AgentHookContext) -> HookOutcome:
        return self._hook.after_iteration(context)


def _label_of(task: str) -> str:
    line = next((line.strip() for line in task.splitlines() if line.strip()), "task")
    return line if len(line) <= _LABEL else f"{line[: _LABEL - 1]}…"


_LABEL: Final = 30
"""Characters of a task that stand for it, if the model gave it no name."""
