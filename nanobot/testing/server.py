"""The scripted server as a process of its own, for load and for clients in any language.

    python -m nanobot.testing.server --answer "Two files." --tool list_dir --delay-ms 1000

It prints its base URL in one line as soon as connections can be made, and serves until SIGTERM or SIGINT.
`GET /statistics` tells what it has counted. Some model names stand for trouble, whatever the command line says:
`--help` lists them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

import trio

from nanobot.errors import UsageError
from nanobot.messages import ToolCall

from ._answer import Answer
from ._canned import CANNED, canned_answers
from ._scripted_server import scripted_server

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        answer = _answer_from_options(options)
    except UsageError as error:
        parser.error(str(error))
    tool = None if options.tool is None else ToolCall("", options.tool, options.tool_arguments)
    _allow_many_files()
    trio.run(_serve, options, answer, tool)


async def _serve(options: argparse.Namespace, answer: Answer, tool: ToolCall | None) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        context = scripted_server(
            canned_answers(answer, tool=tool),
            host=options.host,
            port=options.port,
            record=False,
            refuse_after=options.refuse_after,
        )
        async with context as server, trio.open_nursery() as nursery:
            print(server.base_url, flush=True)
            if options.until_stdin_closes:
                nursery.start_soon(_cancel_when_stdin_closes, nursery.cancel_scope)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


async def _cancel_when_stdin_closes(scope: trio.CancelScope) -> None:
    # Not sys.stdin: its lock, held by a thread that still reads, makes the interpreter abort at exit.
    while await trio.to_thread.run_sync(os.read, 0, 4096, abandon_on_cancel=True):
        pass
    scope.cancel()


def _answer_from_options(options: argparse.Namespace) -> Answer:
    text: str | list[str] = options.answer
    if options.deltas is not None:
        text = _split_evenly(options.answer, options.deltas)
    return Answer(
        text,
        reasoning=options.reasoning,
        before_head_s=options.head_delay_ms / 1000,
        before_first_delta_s=options.delay_ms / 1000,
        between_deltas_s=options.between_ms / 1000,
    )


def _split_evenly(text: str, count: int) -> list[str]:
    """Split a text into so many pieces; one that is too short for it is repeated."""
    if count < 1 or not text:
        raise UsageError("--deltas must be at least 1, and --answer must not be empty")
    text = text * -(-count // len(text))
    return [text[len(text) * i // count : len(text) * (i + 1) // count] for i in range(count)]


def _allow_many_files() -> None:
    """Raise the limit of open files to what the system allows: each connection is one."""
    if sys.platform == "win32":
        return
    import resource  # deferred: Windows has no such module

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nanobot.testing.server",
        description="A scripted, OpenAI-compatible model service. Prints its base URL, then serves until SIGTERM.",
        epilog="Models that do something else: echo, status-<code>, status-<code>-retry-<seconds>, "
        + ", ".join(CANNED),
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=0, help="0 lets the system choose (default: %(default)s)")
    add("--answer", default="Hello from a scripted model.", help="the text (default: %(default)r)")
    add("--reasoning", default="", help="reasoning before the text")
    add("--deltas", type=int, help="split the text into so many deltas (default: one per word)")
    add("--delay-ms", type=float, default=0, help="before the first delta")
    add("--between-ms", type=float, default=0, help="between two deltas")
    add("--head-delay-ms", type=float, default=0, help="before the response head")
    add("--tool", help="call this tool first; a request with a tool result gets the text")
    add(
        "--tool-arguments",
        default="{}",
        help="arguments of that call, sent as they are (default: %(default)s)",
    )
    add("--refuse-after", type=int, help="refuse connections after so many")
    add(
        "--until-stdin-closes",
        action="store_true",
        help="end as well when standard input does, so that a killed parent leaves no server behind",
    )
    return parser


if __name__ == "__main__":
    main()
