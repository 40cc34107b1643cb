"""`nanobot gateway`: chats over WebSocket and a page to use them with, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING

import click

from ._failure import Failure
from ._instance import Instance, instance_options, model_options

if TYPE_CHECKING:
    import trio

    from nanobot import Nanobot
    from nanobot.config import Config
    from nanobot.gateway import Gateway, GatewaySettings

__all__ = ["gateway"]


@click.command()
@instance_options
@model_options
@click.option("--host", metavar="ADDRESS", help="Address of WebSocket and page.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of page, health and tokens.")
@click.option("--ws-port", type=click.IntRange(0, 65535), help="Port of the WebSocket.")
@click.option("--verbose", is_flag=True, help="Log what happens.")
def gateway(
    config: str | None,
    workspace: str | None,
    model: str | None,
    preset: str | None,
    host: str | None,
    port: int | None,
    ws_port: int | None,
    verbose: bool,
) -> None:
    """Serve chats over WebSocket, and a page for them.

    Runs until SIGTERM or Ctrl-C. Then it takes no new messages, lets turns go on for channels.websocket.drainS seconds, and
    exits with code 0; a second signal ends it at once.
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING)
    instance = Instance(config=config, workspace=workspace, model=model, preset=preset)
    settings = _settings(instance.load(), host, port, ws_port)
    bot = instance.open()
    import trio  # deferred: 0.1 s that --help does not need

    from nanobot.server import allow_many_files  # deferred: as in `_settings`

    allow_many_files()
    try:
        trio.run(_serve, bot, settings)
    except* OSError as errors:
        error = errors.exceptions[0]
        raise Failure(
            f"The gateway cannot listen: {error}",
            "Is another one running? Choose --port and --ws-port.",
        ) from error


def _settings(
    config: Config, host: str | None, port: int | None, ws_port: int | None
) -> GatewaySettings:
    # deferred: the HTTP server costs 0.3 s, and may not be installed
    from msgspec.structs import replace

    try:
        # deferred: as above
        from nanobot.gateway import gateway_settings
    except ModuleNotFoundError as error:
        raise Failure(
            f"The gateway needs {error.name}, which is not installed.",
            "Install it with: pip install 'nanobot-ai[server]'",
        ) from error
    settings = gateway_settings(config)
    if host is not None:
        settings = replace(settings, websocket_host=host, http_host=host)
    if port is not None:
        settings = replace(settings, http_port=port)
    if ws_port is not None:
        settings = replace(settings, websocket_port=ws_port)
    return settings.checked()


async def _serve(bot: Nanobot, settings: GatewaySettings) -> None:
    import trio  # deferred: as in `_settings`

    from nanobot.gateway import Gateway  # deferred: as in `_settings`

    async with bot, trio.open_nursery() as nursery:
        served = Gateway(bot, settings)
        nursery.start_soon(_stop_on_signal, served, nursery.cancel_scope)
        async with trio.open_nursery() as serving:
            _announce(await serving.start(served.serve))
        nursery.cancel_scope.cancel()


async def _stop_on_signal(served: Gateway, everything: trio.CancelScope) -> None:
    # deferred: as in `_settings`
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if served.draining:
                everything.cancel()
            else:
                click.echo("Stopping; once more to stop at once.", err=True)
                served.stop()


def _announce(settings: GatewaySettings) -> None:
    host = f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host
    click.echo(f"Page       http://{host}:{settings.http_port}/")
    host = (
        f"[{settings.websocket_host}]"
        if ":" in settings.websocket_host
        else settings.websocket_host
    )
    click.echo(f"WebSocket  ws://{host}:{settings.websocket_port}{settings.path}")
    sys.stdout.flush()  # whoever started us may be waiting for the ports, behind a pipe
