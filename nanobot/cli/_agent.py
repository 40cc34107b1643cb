"""`nanobot agent`: one message with `-m`, a conversation without."""

from __future__ import annotations

import sys
from functools import partial

import click

from ._failure import Failure
from ._instance import Instance, instance_options, model_options

__all__ = ["agent"]

DEFAULT_SESSION_KEY = "cli:direct"


@click.command()
@click.argument("dash", metavar="[-]", required=False, type=click.Choice(["-"]))
@click.option(
    "-m", "--message", metavar="TEXT", help="What to say; - reads it from standard input."
)
@click.option(
    "-s",
    "--session",
    default=DEFAULT_SESSION_KEY,
    metavar="KEY",
    show_default=True,
    help="Session to continue, or to begin.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the session's turn: it waited for an approval, or was interrupted.",
)
@instance_options
@model_options
@click.option(
    "--media",
    multiple=True,
    metavar="FILE",
    help="File that goes with the message; may be repeated.",
)
@click.option(
    "--markdown/--no-markdown",
    default=True,
    show_default=True,
    help="Lay the answer out on a terminal.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print events as JSON lines; needs -m or --resume."
)
def agent(
    dash: str | None,
    message: str | None,
    session: str,
    resume: bool,
    config: str | None,
    workspace: str | None,
    model: str | None,
    preset: str | None,
    media: tuple[str, ...],
    markdown: bool,
    as_json: bool,
) -> None:
    """Send one message, or talk.

    With -m, or with - and the message on standard input, one turn: the answer goes to standard output, everything else to
    standard error. Exit code 0 if there was an answer, 1 if the run failed, 75 if it waits for an approval, 130 after Ctrl-C;
    the session keeps what was said.

    With --resume, the same for a turn that was left: see `nanobot approvals`.

    Without these, a conversation: /help says what it understands. Ctrl-C stops the turn, Ctrl-D ends the conversation.
    """
    if dash is not None:
        if message is not None:
            raise click.UsageError("Say the message with -m, or - to read it from standard input.")
        message = dash
    instance = Instance(config=config, workspace=workspace, model=model, preset=preset)
    if resume:
        if message is not None or media:
            raise click.UsageError("--resume goes on with a turn; it takes no message.")
    elif message is None:
        _refuse_what_needs_a_message(media, as_json)
        from ._chat import chat  # deferred: prompt_toolkit, 0.1 s

        sys.exit(chat(instance, session, markdown=markdown))
    if message == "-":
        message = sys.stdin.read()
    if message is not None and not message.strip():
        raise click.UsageError("The message is empty.")
    from ._once import answer_once  # deferred: rich and the SDK, which --help does not need

    with instance.open() as bot:
        if bot.runtime.notice:
            click.echo(bot.runtime.notice, err=True)
        if message is None:
            begin = partial(bot.resume_stream_sync, session)
        else:
            begin = partial(bot.stream_sync, message, session_key=session, media=media)
        code = answer_once(begin, as_json=as_json, markdown=markdown)
    sys.exit(code)


def _refuse_what_needs_a_message(media: tuple[str, ...], as_json: bool) -> None:
    if media or as_json:
        raise click.UsageError("--media and --json need a message: use -m.")
    if not sys.stdin.isatty():
        raise Failure(
            "There is no terminal to talk at.",
            "Send one message with -m TEXT, or with - to read it from standard input.",
        )
