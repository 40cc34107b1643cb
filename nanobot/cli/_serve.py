"""`nanobot serve`: the agent behind OpenAI's API."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from ._failure import Failure
from ._instance import Instance, instance_options, model_options

if TYPE_CHECKING:
    from nanobot import Nanobot
    from nanobot.config import ApiSettings

__all__ = ["serve"]


@click.command()
@instance_options
@model_options
@click.option("-H", "--host", help="Address to listen on.  [config: api.host, 127.0.0.1]")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on.  [config: api.port, 8900]",
)
@click.option(
    "-t",
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    help="Seconds that one request may take.  [config: api.timeout, 120]",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Show what the server notes, not only warnings."
)
def serve(
    config: str | None,
    workspace: str | None,
    model: str | None,
    preset: str | None,
    host: str | None,
    port: int | None,
    timeout: float | None,
    verbose: bool,
) -> None:
    """Serve the agent over OpenAI's HTTP API.

    Stops at SIGTERM or Ctrl-C, when the requests that are open have ended.
    """
    # deferred: half of what the command line costs, and --help needs none of it
    import trio

    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        level=logging.INFO if verbose else logging.WARNING,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    server = _server()
    instance = Instance(config=config, workspace=workspace, model=model, preset=preset)
    told = {"host": host, "port": port, "timeout": timeout}
    api = replace(
        instance.load().api, **{name: value for name, value in told.items() if value is not None}
    )
    server.check_bind(api.host, api.api_key)
    bot = instance.open()
    server.allow_many_files()
    run = partial(
        server.serve,
        bot,
        server.settings_from_config(api),
        host=api.host,
        port=api.port,
        task_status=_Announcement(bot, api),
    )
    try:
        trio.run(run)
    except OSError as error:
        raise Failure(
            f"Cannot listen on {api.host}:{api.port}: {error.strerror or error}",
            "Choose another port with --port, or another address with --host.",
        ) from error


class _Announcement:
    """Says where the server is, as soon as it is there."""

    def __init__(self, bot: Nanobot, api: ApiSettings) -> None:
        self._bot = bot
        self._api = api

    def started(self, urls: list[str]) -> None:
        click.echo(f"{self._bot.runtime.model} answers at {urls[0]}/v1")
        click.echo(f"key: {'required' if self._api.api_key else 'none'}; stop with Ctrl+C")


def _server() -> Any:
    """The server's package, or what to install."""
    try:
        # deferred: an extra, and 0.2 s to import
        from nanobot import server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("hypercorn", "python_multipart", "starlette"):
            raise Failure(
                "nanobot serve needs the extra `server`.", "pip install 'nanobot-ai[server]'"
            ) from error
        raise
    return server
