"""What a tool is, and how a typed function becomes one."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
from collections.abc import Awaitable, Callable
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    get_args,
    overload,
)

import trio
from msgspec import Struct

from nanobot.errors import UsageError
from nanobot.messages import ToolSpec

from ._approval import ApprovalMode
from ._arguments import convert_arguments
from ._cancel_signal import CancelSignal
from ._cross import Cross, run_here
from ._run_context import RunContext
from ._schema import Parameters, parameters_from_function
from ._threads import in_tool_thread

__all__ = ["FunctionTool", "Tool", "ToolTraits", "tool"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What every vendor's API accepts as the name of a function."""


class ToolTraits(Struct, frozen=True, kw_only=True):
    """What the engine has to know about a tool to run it.

    Attributes:
      timeout_s: Seconds a call may take, waiting for a thread included; None for no limit.
      read_only: A call changes nothing, so several of one iteration may run at once.
      exclusive: Nothing else of the same iteration runs beside a call, even if it is read-only.
      on_host: An async function runs in the loop of whoever called the SDK; False for a Trio function, which runs
        in the engine. Sync functions run in threads either way.
      bounds_result: The tool bounds its results itself; they are never cut.
      approval: Whether somebody is asked before each call. The configuration may say otherwise.
      idempotent: A call that was interrupted may be run again: twice is the same as once.
      gives_answer: A call does nothing but give the run's answer, so nobody is ever asked about it.
    """

    timeout_s: float | None = None
    read_only: bool = False
    exclusive: bool = False
    on_host: bool = True
    bounds_result: bool = False
    approval: ApprovalMode = "never"
    idempotent: bool = False
    gives_answer: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether a call may be run again if nobody knows what became of it."""
        return self.idempotent or self.read_only or self.gives_answer


class Tool(Protocol):
    """Something the model may call. Stateless, or safe to be called several times at once."""

    @property
    def spec(self) -> ToolSpec:
        """What the model is told."""
        ...

    @property
    def traits(self) -> ToolTraits:
        """How it is to be run."""
        ...

    @property
    def origin(self) -> str:
        """Where it comes from, for people: `package.module.function`, or a server's name."""
        ...

    def convert(self, arguments: dict[str, Any]) -> Any:
        """Check the model's arguments and convert them to what `invoke` takes.

        Raises:
          ToolError: They do not fit, with a text for the model.
        """
        ...

    async def invoke(self, arguments: Any, context: RunContext, cross: Cross) -> object:
        """Run it once and return whatever it returns. Any exception but cancellation is the tool's failure."""
        ...


class FunctionTool(Generic[P, R_co]):
    """A function that the model may call. Calling the object calls the function; made by `tool`.

    Defined in a class body it is a method like any other: `instance.name` is the tool, bound.

    Attributes:
      spec: What the model is told.
      traits: How it is to be run.
      needs_instance: Whether it is a method that is not bound yet, so that it cannot be run.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[P, R_co],
        *,
        name: str,
        traits: ToolTraits,
        parameters: Parameters,
        needs_instance: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function)
        self._parameters = parameters
        self.needs_instance: Final = needs_instance
        self.spec: Final = ToolSpec(name, parameters.description, parameters.schema)
        self.traits: Final = traits

    def __repr__(self) -> str:
        return f"<tool {self.spec.name}: {self.origin}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self._function(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> FunctionTool[P, R_co]: ...
    @overload
    def __get__(
        self: FunctionTool[Concatenate[S, Q], R], instance: S, owner: type | None = None
    ) -> FunctionTool[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None or not self.needs_instance:
            return self
        return FunctionTool(
            types.MethodType(self._function, instance),
            name=self.spec.name,
            traits=self.traits,
            parameters=self._parameters,
        )

    @property
    def origin(self) -> str:
        """`package.module.function`."""
        return f"{self._function.__module__}.{self._function.__qualname__}"

    def convert(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Check and convert the model's arguments; see `Tool.convert`."""
        return convert_arguments(arguments, self._parameters)

    async def invoke(self, arguments: dict[str, Any], context: RunContext, cross: Cross) -> object:
        """Run the function once: an async one where `traits.on_host` says, a sync one in a thread."""
        values = {**arguments, **dict.fromkeys(self._parameters.context_names, context)}
        positional = [values.pop(name) for name in self._parameters.positional_names]
        call = functools.partial(cast("Callable[..., Any]", self._function), *positional, **values)
        if not self.traits.on_host:
            cross = run_here
        if self._is_async:
            if not self._parameters.context_names:
                return await cross(call)
            return await _telling(context.state.cancel, cross, call)
        state = context.state
        state.started, state.in_thread = False, True

        def called() -> tuple[object]:
            state.started = True
            return (call(),)  # boxed, for Trio refuses a thread that returns a coroutine

        (result,) = await in_tool_thread(called)
        state.in_thread = False
        # A wrapper around an async function looks sync from outside; what it returned is awaited where it belongs.
        return await cross(_awaited, result) if inspect.isawaitable(result) else result


async def _telling(signal: CancelSignal, cross: Cross, call: Callable[[], Awaitable[R]]) -> R:
    """Await an async function, and give the signal the moment it is cancelled: threads that it waits for hear of it so."""
    failure: BaseException | None = None

    async def tell() -> None:
        try:
            await trio.sleep_forever()
        finally:
            signal.request()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        try:
            value = await cross(call)
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - raised below, where no nursery makes a group of it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return value


async def _awaited(value: Awaitable[R]) -> R:
    return await value


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    timeout_s: float | None = None,
    read_only: bool = False,
    exclusive: bool = False,
    on_host: bool = True,
    bounds_result: bool = False,
    approval: ApprovalMode = "never",
    idempotent: bool = False,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    timeout_s: float | None = None,
    read_only: bool = False,
    exclusive: bool = False,
    on_host: bool = True,
    bounds_result: bool = False,
    approval: ApprovalMode = "never",
    idempotent: bool = False,
) -> Any:
    """Let the model call a function: sync or async, a plain function, a method, or `tool(instance.method)`.

        @tool(timeout_s=10, read_only=True)
        async def weather(city: Annotated[str, Meta(description="City and country.")], days: int = 1) -> str:
            "Forecast the weather."

    The annotations make the JSON schema that the model sees, and the check of what it sends: `msgspec.Meta` adds
    bounds and descriptions, defaults make parameters optional. The docstring tells the model what the tool is for;
    its `Args:` section describes parameters that have no description yet. A parameter annotated `RunContext` is
    filled in by nanobot.

    Whatever the function returns becomes the result: text as it is, message parts as they are, everything else as
    JSON. What it raises becomes an error the model reads; raise `ToolError` to choose the words.

    Args:
      function: The function.
      name: What the model calls it; the function's name if not given. Letters, digits, `_` and `-`, at most 64.
      timeout_s: Seconds a call may take; None for no limit. A sync function cannot be stopped: past its deadline,
        or after a cancel, its thread goes on alone and its result is dropped. `RunContext.cancel` tells it so.
      read_only: A call changes nothing, so that several may run at once.
      exclusive: No other call of the same iteration runs beside this one, even if this is read-only.
      on_host: False if `function` is a Trio function that should run in the engine instead of your own loop.
      bounds_result: The results are never too long, so they are never cut.
      approval: "ask" to have each call approved by whoever the bot or the run names as `approver`; the time that takes
        is not counted. `tools.approval` of the configuration has the last word.
      idempotent: A call may be run again if it was interrupted by a crash, for twice is the same as once; see `bot.resume`.

    Raises:
      UsageError: The function cannot be a tool; the message names the parameter or the name, and what would do.
    """
    traits = ToolTraits(
        timeout_s=timeout_s,
        read_only=read_only,
        exclusive=exclusive,
        on_host=on_host,
        bounds_result=bounds_result,
        approval=approval,
        idempotent=idempotent,
    )
    if function is not None:
        return _tool_from_function(function, name, traits, sys._getframe(1))

    def decorate(function: Callable[P, R]) -> FunctionTool[P, R]:
        return _tool_from_function(function, name, traits, sys._getframe(1))

    return decorate


def _tool_from_function(
    function: Callable[P, R], name: str | None, traits: ToolTraits, caller: types.FrameType
) -> FunctionTool[P, R]:
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise UsageError(
            f"{function!r} cannot be a tool: only functions and bound methods can. Write a def around it; for a class"
            " method or a static method pass tool(Class.method)."
        )
    name = function.__name__ if name is None else name
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a tool: letters, digits, _ and - only, 1 to 64 of them. Pass name=."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(
            f"{function.__qualname__}() yields; a tool returns one result. Collect it and return that."
        )
    if traits.approval not in get_args(ApprovalMode):
        raise UsageError(f"{name}: approval is {traits.approval!r}; it must be 'ask' or 'never'.")
    if traits.timeout_s is not None and not traits.timeout_s > 0:
        raise UsageError(
            f"{name}: timeout_s is {traits.timeout_s}; it must be more than 0, or None for no limit."
        )
    needs_instance = _is_method_in_class_body(function)
    parameters = parameters_from_function(function, skip_self=needs_instance, caller=caller)
    return FunctionTool(
        function, name=name, traits=traits, parameters=parameters, needs_instance=needs_instance
    )


def _is_method_in_class_body(function: Callable[..., Any]) -> bool:
    around = function.__qualname__.rpartition(".")[0]
    if inspect.ismethod(function) or not around or around.endswith("<locals>"):
        return False
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return first is not None and first.name == "self" and first.annotation is first.empty
