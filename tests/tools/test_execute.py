"""One tool call, and everything that can become of it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from nanobot.errors import ToolError
from nanobot.messages import FilePart, ImagePart, TextPart, ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, Workspace, execute, tool
from nanobot.tools._threads import TOOL_THREADS

T = TypeVar("T")


async def run(
    function: Any, context: RunContext, arguments: str = "{}", **options: Any
) -> ToolResult:
    """Execute one call of one function."""
    made = (
        tool(name="it")(function)
        if callable(function) and not hasattr(function, "spec")
        else function
    )
    return await execute(
        ToolCall("call-1", made.spec.name, arguments), Toolset([made]), context, **options
    )


def files_below(folder: Path) -> dict[str, str]:
    """All files in a folder, by their path in it."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Money(msgspec.Struct):
    amount: int


class Model:
    def model_dump(self, mode: str) -> dict[str, str]:
        return {"mode": mode}


class Odd:
    def __str__(self) -> str:
        return "an odd thing"


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("text", "text"),
        ("", "(it completed with no output)"),
        (None, "(it completed with no output)"),
        (b"", "(it completed with no output)"),
        (b"caf\xc3\xa9", "café"),
        (bytearray(b"ab"), "ab"),
        (b"\xff\xfe\xfd", "(3 bytes that are no text)"),
        ("half \ud83d", "half ?"),
        (5, "5"),
        (False, "false"),
        ([], "[]"),
        ({}, "{}"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (Money(3), '{"amount":3}'),
        ([Money(3)], '[{"amount":3}]'),
        (Path("a/b"), '"a/b"'),
        (Odd(), '"an odd thing"'),
        (Model(), '{"mode":"json"}'),
        (TextPart("a"), (TextPart("a"),)),
        ((TextPart("see"), ImagePart("a.png")), (TextPart("see"), ImagePart("a.png"))),
        ([FilePart("a.pdf")], (FilePart("a.pdf"),)),
    ],
    ids=itertools.count(),
)
async def test_whatever_a_tool_returns_is_shown(
    value: Any, content: Any, context: RunContext
) -> None:
    async def function() -> Any:
        return value

    result = await run(function, context)
    assert result.message.content == content
    assert (result.ok, result.error, result.message.outcome) == (True, None, "ok")
    assert (result.message.tool_call_id, result.message.name) == ("call-1", "it")


async def test_a_value_that_cannot_be_shown_is_an_error_that_says_the_tool_ran(
    context: RunContext,
) -> None:
    loop: list[Any] = []
    loop.append(loop)

    async def function() -> Any:
        return loop

    result = await run(function, context)
    assert not result.ok
    assert str(result.message.content).startswith(
        "Error: The tool ran, but what it returned cannot be shown"
    )
    assert isinstance(result.exception, RecursionError)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_generator_is_no_result_and_the_error_says_what_to_return(
    kind: str, context: RunContext
) -> None:
    async def numbers() -> AsyncIterator[int]:  # noqa: ASYNC900 - the mistake under test
        yield 1

    async def function() -> Any:
        return numbers() if kind == "async" else (number for number in range(3))

    result = await run(function, context)
    assert "a generator; collect what it yields and return that" in str(result.error)


def shop_failed() -> NoReturn:
    raise ToolError("The shop is closed. Try tomorrow.")


def said_error() -> NoReturn:
    raise ToolError("Error: no such order.")


def bug() -> NoReturn:
    raise ZeroDivisionError("by zero\nand a second line")


def silent() -> NoReturn:
    raise ValueError


def leaves() -> NoReturn:
    raise SystemExit(3)


def cancelled_elsewhere() -> NoReturn:
    raise asyncio.CancelledError


def several() -> NoReturn:
    raise ExceptionGroup(
        "both", [ExceptionGroup("one", [ToolError("No more tea.")]), ValueError("2")]
    )


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def unspeakable() -> NoReturn:
    raise Unspeakable


@pytest.mark.parametrize(
    ("function", "content", "kind"),
    [
        (shop_failed, "Error: The shop is closed. Try tomorrow.", ToolError),
        (said_error, "Error: no such order.", ToolError),
        (bug, "Error: ZeroDivisionError: by zero", ZeroDivisionError),
        (silent, "Error: ValueError", ValueError),
        (leaves, "Error: SystemExit: 3", SystemExit),
        (cancelled_elsewhere, "Error: CancelledError", asyncio.CancelledError),
        (several, "Error: No more tea.", ExceptionGroup),
        (unspeakable, "Error: Unspeakable", Unspeakable),
    ],
)
@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_tool_that_raises_gives_the_model_a_short_error_and_the_trace_the_exception(
    function: Callable[[], NoReturn],
    content: str,
    kind: type[BaseException],
    in_thread: bool,
    context: RunContext,
) -> None:
    async def here() -> None:
        function()

    def there() -> None:
        function()

    result = await run(there if in_thread else here, context)
    assert result.message.content == content
    assert result.message.outcome == "error"
    assert result.error == content.removeprefix("Error: ") or content == "Error: no such order."
    assert result.detail == result.error
    assert type(result.exception) is kind
    assert result.exception.__traceback__ is not None


async def test_a_long_message_of_a_strangers_exception_is_cut(context: RunContext) -> None:
    async def function() -> None:
        raise ValueError("x" * 10_000)

    result = await run(function, context)
    assert len(str(result.message.content)) < 600
    assert len(result.detail) == 120


async def test_ctrl_c_is_no_failure_of_a_tool(context: RunContext) -> None:
    async def function() -> None:
        raise BaseExceptionGroup("", [ValueError("x"), KeyboardInterrupt()])

    with pytest.raises(KeyboardInterrupt):
        await run(function, context)


async def test_an_unknown_tool_is_answered_with_those_that_exist(context: RunContext) -> None:
    @tool(name="read_file")
    def one() -> None: ...

    @tool(name="list_dir")
    def two() -> None: ...

    for asked, hint in [
        ("readfile", " Did you mean read_file?"),
        ("READ_FILE", " Did you mean read_file?"),
        ("functions.list_dir", " Did you mean list_dir?"),
        ("zzz", ""),
    ]:
        result = await execute(ToolCall("1", asked, "{}"), Toolset([one, two]), context)
        assert (
            result.message.content
            == f"Error: There is no tool called '{asked}'.{hint} Available tools: list_dir, read_file."
        )
        assert result.message.name == asked
    result = await execute(ToolCall("1", "x" * 10**6, "{}"), Toolset(), context)
    assert str(result.error).endswith("x'. Available tools: none.")
    assert len(str(result.error)) < 200


async def test_wrong_arguments_are_answered_without_running_the_tool(context: RunContext) -> None:
    ran = False

    async def function(count: int) -> None:
        nonlocal ran
        ran = True

    for arguments in ("{}", '{"count": "x"}', '{"count": 1, "more": 2}', "nonsense", "[]"):
        result = await run(function, context, arguments)
        assert not result.ok
        assert str(result.message.content).startswith("Error: ")
    assert not ran


async def test_a_tool_that_is_too_slow_is_stopped_at_its_deadline(
    autojump_clock: MockClock, context: RunContext
) -> None:
    cleaned = False

    @tool(name="it", timeout_s=5)
    async def function() -> None:
        nonlocal cleaned
        try:
            await trio.sleep_forever()
        finally:
            cleaned = True

    result = await run(function, context)
    assert cleaned
    assert result.elapsed_s == 5.0
    assert result.message.outcome == "timed_out"
    assert result.error == (
        "The tool did not finish within 5 s. It was stopped, perhaps half done: check before you repeat it, or ask for less."
    )


async def test_what_a_tool_raises_at_its_deadline_is_its_error(
    autojump_clock: MockClock, context: RunContext
) -> None:
    @tool(name="it", timeout_s=5)
    async def function() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ToolError("It broke while closing.")

    result = await run(function, context)
    assert (result.error, result.message.outcome) == ("It broke while closing.", "error")


async def test_elapsed_time_is_that_of_the_tool(
    autojump_clock: MockClock, context: RunContext
) -> None:
    async def function() -> None:
        await trio.sleep(1.5)

    assert (await run(function, context)).elapsed_s == 1.5


async def test_cancellation_passes_through_as_one_exception(context: RunContext) -> None:
    async def function() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(breaks_when_cancelled)
            await trio.sleep_forever()

    async def breaks_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("on the way out")

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expects_cancelled, function, context)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught


async def expects_cancelled(function: Any, context: RunContext) -> None:
    with pytest.raises(trio.Cancelled) as caught:
        await run(function, context)
    raise caught.value


async def test_async_tools_run_where_the_caller_lives_unless_they_are_ours(
    context: RunContext,
) -> None:
    crossed: list[object] = []

    async def cross(function: Callable[..., Awaitable[T]], /, *args: Any) -> T:
        crossed.append(function)
        return await function(*args)

    @tool(name="it")
    async def theirs() -> str:
        return "there"

    @tool(name="it", on_host=False)
    async def ours() -> str:
        return "here"

    def in_thread() -> str:
        return "in a thread"

    @functools.wraps(theirs)
    def looks_sync() -> Awaitable[str]:
        return theirs()

    assert (await run(theirs, context, cross=cross)).message.content == "there"
    assert len(crossed) == 1
    assert (await run(ours, context, cross=cross)).message.content == "here"
    assert (await run(in_thread, context, cross=cross)).message.content == "in a thread"
    assert len(crossed) == 1
    assert (await run(lambda: theirs(), context, cross=cross)).message.content == "there"
    assert len(crossed) == 2


async def test_sync_tools_run_in_threads_with_the_context_of_the_run(context: RunContext) -> None:
    trace = contextvars.ContextVar("trace", default="none")

    def function() -> str:
        return f"{trace.get()} {threading.current_thread() is threading.main_thread()}"

    trace.set("trace-1")
    assert (await run(function, context)).message.content == "trace-1 False"


async def test_a_sync_tool_that_outlives_its_deadline_is_told_so_and_can_see_it(
    context: RunContext,
) -> None:
    started, ended = threading.Event(), threading.Event()
    abandoned: list[bool] = []

    @tool(name="it", timeout_s=0.05)
    def function(context: RunContext) -> None:
        abandoned.append(context.cancel.requested)
        started.set()
        while not context.cancel.requested:
            threading.Event().wait(0.001)
        abandoned.append(context.cancel.requested)
        ended.set()

    result = await run(function, context)
    assert result.message.outcome == "timed_out"
    assert "cannot be stopped and may still be running" in str(result.error)
    assert started.is_set()
    assert await trio.to_thread.run_sync(ended.wait, 10)
    assert abandoned == [False, True]


async def test_a_sync_tool_that_never_got_a_thread_was_not_run(context: RunContext) -> None:
    release = threading.Event()
    ran = False

    def stuck() -> None:
        release.wait(30)

    @tool(name="it", timeout_s=0.05)
    def function() -> None:
        nonlocal ran
        ran = True

    async with trio.open_nursery() as nursery:
        for _ in range(TOOL_THREADS):
            nursery.start_soon(run, stuck, context)
        await trio.testing.wait_all_tasks_blocked()
        result = await run(function, context)
        release.set()
    assert result.message.outcome == "timed_out"
    assert result.error == (
        f"The call did not start within 0.05 s, because all {TOOL_THREADS} threads for tools are busy."
        " It was not run; try again."
    )
    assert not ran


async def test_a_cancel_leaves_a_sync_tool_behind_at_once(context: RunContext) -> None:
    release, ended = threading.Event(), threading.Event()

    def function() -> None:
        release.wait(30)
        ended.set()

    with trio.move_on_after(0.05) as scope:
        await run(function, context)
    assert scope.cancelled_caught
    assert not ended.is_set()
    release.set()
    assert await trio.to_thread.run_sync(ended.wait, 10)


async def test_a_long_result_is_shown_by_both_ends_and_kept_in_a_file(
    context: RunContext, root: Path
) -> None:
    text = "".join(f"line {n}\n" for n in range(10_000))

    async def function() -> str:
        return text

    result = await run(function, context)
    content = str(result.message.content)
    assert content.startswith("line 0\nline 1\n")
    assert content.endswith("line 9999\n")
    assert len(content) < 16_300
    ((path, kept),) = files_below(root).items()
    assert kept == text
    assert path.startswith(".nanobot/tool-results/user_alice-")
    assert path.endswith("/call-1.txt")
    assert f" {path}: " in content
    assert result.ok
    assert result.detail == "line 0"


async def test_the_limit_is_the_callers_and_what_fits_is_not_kept(
    context: RunContext, root: Path
) -> None:
    async def function() -> str:
        return "x" * 100

    assert (await run(function, context, max_result_chars=100)).message.content == "x" * 100
    assert files_below(root) == {}
    assert "of 100 characters" in str(
        (await run(function, context, max_result_chars=99)).message.content
    )


async def test_a_tool_that_bounds_its_results_is_left_alone(
    context: RunContext, root: Path
) -> None:
    @tool(name="it", bounds_result=True)
    async def function() -> str:
        return "x" * 100_000

    assert (await run(function, context)).message.content == "x" * 100_000
    assert files_below(root) == {}


async def test_the_text_among_several_parts_is_cut_and_the_rest_stays(
    context: RunContext, root: Path
) -> None:
    async def function() -> Any:
        return TextPart("a" * 60), ImagePart("a.png"), TextPart("b" * 60)

    result = await run(function, context, max_result_chars=90)
    assert isinstance(result.message.content, tuple)
    text, image = result.message.content
    assert image == ImagePart("a.png")
    assert isinstance(text, TextPart)
    assert text.text.startswith("a" * 60)
    assert text.text.endswith("b" * 30)
    assert list(files_below(root).values()) == ["a" * 60 + "\n" + "b" * 60]


async def test_a_result_that_cannot_be_kept_is_still_shown(context: RunContext, root: Path) -> None:
    (root / ".nanobot").write_text("in the way")

    async def function() -> str:
        return "x" * 100_000

    result = await run(function, context)
    assert result.ok
    assert "could not be kept: .nanobot/tool-results/" in str(result.message.content)


async def test_a_result_is_never_kept_outside_the_workspace(
    context: RunContext, root: Path
) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / ".nanobot").symlink_to(outside)

    async def function() -> str:
        return "x" * 100_000

    result = await run(function, context)
    assert "is outside the workspace" in str(result.message.content)
    assert files_below(outside) == {}


async def test_a_cancel_just_after_a_tool_has_run_does_not_lose_what_it_said(
    context: RunContext,
) -> None:
    results: list[ToolResult] = []
    with trio.CancelScope() as scope:

        async def function() -> str:
            scope.cancel()
            return "x" * 100_000

        results.append(await run(function, context))
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert [result.ok for result in results] == [True]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("\n\n  first\nsecond", "first"),
        ("a\tb\x1b[31m", "a b [31m"),
        ("x" * 500, "x" * 119 + "…"),
        ("\n" * 5000, ""),
    ],
)
async def test_the_detail_is_one_short_line(text: str, detail: str, context: RunContext) -> None:
    async def function() -> str:
        return text

    assert (await run(function, context)).detail == detail


async def test_calls_of_one_tool_at_once_do_not_see_each_other(
    autojump_clock: MockClock, root: Path
) -> None:
    context = RunContext(confined=Workspace(root), deps="mine")
    seen: dict[str, tuple[str, object]] = {}

    @tool
    async def it(context: RunContext, n: int) -> int:
        await trio.sleep(10 - n)
        seen[str(n)] = (context.tool_call_id, context.deps)
        return n

    async with trio.open_nursery() as nursery:
        for n in range(10):
            call = ToolCall(f"call-{n}", "it", f'{{"n": {n}}}')
            nursery.start_soon(execute, call, Toolset([it]), context)
    assert seen == {str(n): (f"call-{n}", "mine") for n in range(10)}
