"""What a caller asks of one run, checked before anything happens."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict, get_args

from msgspec import Struct

from nanobot.agent import AgentHook, Budget, OutputType, output_type_of
from nanobot.errors import InvalidArgument
from nanobot.messages import Message
from nanobot.sessions import messages_from_transcript
from nanobot.tools import Approver, Tool

from ._run import OnBusy

__all__ = [
    "DEFAULT_SESSION_KEY",
    "RunOptions",
    "RunRequest",
    "check_approver",
    "check_names",
    "checked_hooks",
    "make_request",
]

DEFAULT_SESSION_KEY = "sdk:default"

_POLICIES: Final = get_args(OnBusy)


class RunOptions(TypedDict, total=False):
    """The keyword arguments of `run` and its kin.

    Keys:
      session_key: Conversation to continue, any string. Default "sdk:default".
      channel: Label of where the message comes from; picks the format hint the model gets. Default "cli".
      chat_id: Label of the chat within the channel. Default "direct".
      sender_id: Label of who sent the message. Default "user".
      media: Paths of files that go with the message. Images are shown to the model, others named to it.
      ephemeral: Read the session's history, but leave no trace of this run anywhere.
      history: A transcript, as `sessions.ingest` takes it, to stand in the place of the session's history; for clients
        that keep their conversations themselves. Only with `ephemeral=True`.
      hooks: `AgentHook`s for this run, after those of the bot.
      model: A model for this run only.
      model_preset: A configured preset for this run only; not together with `model`.
      timeout_s: Seconds the whole run may take; past it, `stop_reason` is "timeout".
      max_iterations: Model answers with tool calls that are followed up; default from the configuration (200).
      max_budget: A `Budget` in tokens or US dollars, instead of the configured one. The run stops before the call that
        could pass it; `stop_reason` is "budget" then.
      tools: Further tools for this run.
      deps: Anything; handed to tools as `RunContext.deps`, never stored.
      approver: Who decides on calls that need approval, instead of the bot's: `async def approver(request)` returns True
        or `Approved()`, False or `Denied(reason)`. It runs where hooks run.
      on_busy: What to do if the session has another run. "wait" (the default): this one comes when those before it have
        ended. "reject": raise `SessionBusy`. "replace": cancel the run that is in its turn, and be the next. "steer": the
        message goes into the turn that is running, before the model is asked again, and the result is that turn's; if it
        ends before, the message gets a turn of its own. What is set beside it counts for a turn of its own only.
      tenant: On whose account the run takes one of the places of `agents.defaults.maxConcurrentRuns`, which are shared
        fairly. By default each session counts for itself.
      resumable: Write down each call of a tool before it begins, so that `bot.resume` can go on with the turn after a crash
        and no call is run twice, unless its tool is `idempotent` or only reads. Costs a write for each such call. Default
        `agents.defaults.resumable`, which is False.
      output_retries: Answers of the wrong type that are sent back to the model before the run fails. Default 2.
      join_deltas: Tell pieces of text that the model service sent at once as one `text.delta`, and those of reasoning so.
        For readers that pay for each event, such as servers. Default False: an event for each piece.
    """

    session_key: str
    channel: str
    chat_id: str
    sender_id: str
    media: Sequence[str | Path] | None
    ephemeral: bool
    history: Sequence[Mapping[str, Any]] | None
    hooks: Sequence[AgentHook] | None
    model: str | None
    model_preset: str | None
    timeout_s: float | None
    max_iterations: int | None
    max_budget: Budget | None
    tools: Sequence[Tool] | None
    deps: Any
    approver: Approver | None
    on_busy: OnBusy
    tenant: str | None
    resumable: bool
    output_retries: int
    join_deltas: bool


class RunRequest(Struct, frozen=True, kw_only=True):
    """A checked request; the fields are those of `RunOptions`. `resumes`: it goes on with a turn, and has no message."""

    message: str
    session_key: str = DEFAULT_SESSION_KEY
    channel: str = "cli"
    chat_id: str = "direct"
    sender_id: str = "user"
    media: tuple[str, ...] = ()
    ephemeral: bool = False
    history: tuple[Message, ...] | None = None
    hooks: tuple[AgentHook, ...] = ()
    model: str | None = None
    model_preset: str | None = None
    timeout_s: float | None = None
    max_iterations: int | None = None
    max_budget: Budget | None = None
    tools: tuple[Tool, ...] = ()
    deps: Any = None
    approver: Approver | None = None
    on_busy: OnBusy = "wait"
    tenant: str | None = None
    resumable: bool | None = None
    resumes: bool = False
    output: OutputType | None = None
    output_retries: int = 2
    join_deltas: bool = False


def make_request(message: str, options: RunOptions, output_type: Any = None) -> RunRequest:
    """Check a caller's arguments. `output_type` is the type that the answer is to have; None for text.

    Raises:
      InvalidArgument: One has a value that cannot be used; it is a `ValueError` too.
      InvalidMessage: A message of `history` cannot be read; names its index and field.
      UsageError: There is no JSON of that type.
      TypeError: There is no such argument.
    """
    unknown = options.keys() - RunOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(sorted(RunOptions.__annotations__))
        raise TypeError(f"unknown argument {sorted(unknown)[0]!r}; there are: message, {known}")
    if options.get("model") is not None and options.get("model_preset") is not None:
        raise InvalidArgument("model and model_preset are mutually exclusive")
    if not isinstance(message, str):
        raise InvalidArgument(f"message must be a string, not {type(message).__name__}")
    for name in ("session_key", "channel", "chat_id", "sender_id"):
        text = options.get(name, "")
        if not isinstance(text, str):
            raise InvalidArgument(f"{name} must be a string, not {type(text).__name__}")
    check_names(model=options.get("model"), model_preset=options.get("model_preset"))
    timeout_s: object = options.get("timeout_s")
    if timeout_s is not None and not (isinstance(timeout_s, int | float) and timeout_s > 0):
        raise InvalidArgument(f"timeout_s must be more than 0 seconds, not {timeout_s!r:.200}")
    max_iterations: object = options.get("max_iterations")
    if max_iterations is not None and not (type(max_iterations) is int and max_iterations >= 1):
        raise InvalidArgument(f"max_iterations must be at least 1, not {max_iterations!r:.200}")
    output_retries = options.get("output_retries", 2)
    if type(output_retries) is not int or output_retries < 0:
        raise InvalidArgument(f"output_retries must be a number >= 0, not {output_retries!r}")
    max_budget = options.get("max_budget")
    if max_budget is not None and not isinstance(max_budget, Budget):
        raise InvalidArgument(
            f"max_budget must be a Budget, such as Budget(tokens=50_000), not {max_budget!r}"
        )
    hooks = checked_hooks(options.get("hooks"))
    check_approver(options.get("approver"))
    _check_queueing(options)
    checked: dict[str, Any] = {**options}
    media = options.get("media")
    if isinstance(media, str):
        raise InvalidArgument("media must be a list of paths; put the one path in a list")
    history = options.get("history")
    if history is not None:
        if not options.get("ephemeral"):
            raise InvalidArgument(
                "history needs ephemeral=True; to put a transcript into a session, use bot.sessions.ingest()"
            )
        checked["history"] = messages_from_transcript(history)
    checked["media"] = tuple(os.fspath(path) for path in media or ())
    checked["hooks"] = hooks
    checked["tools"] = tuple(options.get("tools") or ())
    if output_type is not None:
        if options.get("on_busy") == "steer":
            raise InvalidArgument(
                "output_type cannot go with on_busy='steer': the turn that is running gives its own answer"
            )
        checked["output"] = output_type_of(output_type)
    return RunRequest(message=message, **checked)


def _check_queueing(options: RunOptions) -> None:
    tenant = options.get("tenant")
    if tenant is not None and not isinstance(tenant, str):
        raise InvalidArgument(f"tenant must be a string, not {type(tenant).__name__}")
    resumable = options.get("resumable")
    if resumable is not None and not isinstance(resumable, bool):
        raise InvalidArgument(f"resumable must be True or False, not {resumable!r:.200}")
    if resumable and options.get("ephemeral"):
        raise InvalidArgument("a run that leaves no trace (ephemeral=True) cannot be resumable")
    on_busy = options.get("on_busy", "wait")
    if on_busy not in _POLICIES:
        known = ", ".join(map(repr, _POLICIES))
        raise InvalidArgument(f"on_busy must be one of {known}, not {on_busy!r:.200}")
    if on_busy == "steer":
        for name in ("model", "model_preset", "ephemeral", "history"):
            if options.get(name):
                raise InvalidArgument(
                    f"{name} cannot go with on_busy='steer': the turn that is running has its own model, and keeps what"
                    " is said in it"
                )


def checked_hooks(hooks: object) -> tuple[AgentHook, ...]:
    """The hooks of a list. A class in the place of its instance would be called, fail, and guard nothing.

    Raises:
      InvalidArgument: Something else than a list of hooks was given.
    """
    if isinstance(hooks, AgentHook) or not isinstance(hooks, Iterable | None):
        raise InvalidArgument(f"hooks must be a list of AgentHook instances, not {hooks!r}")
    checked = tuple(hooks or ())
    for hook in checked:
        if not isinstance(hook, AgentHook):
            raise InvalidArgument(f"hooks must be AgentHook instances, not {hook!r}")
    return checked


def check_names(**names: object) -> None:
    """Check that models and presets are named by strings.

    Raises:
      InvalidArgument: One is not.
    """
    for argument, name in names.items():
        if name is not None and not isinstance(name, str):
            raise InvalidArgument(f"{argument} must be a string, not {name!r:.200}")


def check_approver(approver: object) -> None:
    """Check that an approver can be called.

    Raises:
      InvalidArgument: It cannot.
    """
    if approver is not None and not callable(approver):
        raise InvalidArgument(
            f"approver must be a function of one ApprovalRequest, not {approver!r}"
        )
