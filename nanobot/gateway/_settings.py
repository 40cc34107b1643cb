"""What a gateway is told before it starts: addresses, tokens, limits."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from nanobot.config import Config
from nanobot.errors import ConfigError

from ._admission import LOOPBACK_HOSTS, is_loopback

__all__ = ["GatewaySettings", "gateway_settings"]

_MIB: Final = 1024 * 1024


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """The settings of one gateway.

    Attributes:
      websocket_host: Address of the WebSocket.
      websocket_port: Its port; 0 takes a free one.
      path: Its path.
      http_host: Address of page, health and tokens.
      http_port: Their port; 0 takes a free one.
      token: The static token; "" admits whoever can reach the port, and is for loopback only.
      token_ttl_s: How long an issued token can be used.
      public_url: The WebSocket's address as browsers see it, behind a proxy; "" is derived from how the page was asked for.
      allowed_origins: Web pages that may connect besides the gateway's own.
      max_connections: WebSockets at once.
      max_chats_per_connection: Chats one connection is attached to.
      max_frame_chars: Longest frame of a client: four files in base64, as the existing nanobot lets them come.
      frames_per_s: How many frames a client may send in the long run, and three seconds' worth at once.
      max_queued: Messages that wait in one chat.
      replay_bytes: What is kept of one chat for clients that come back, and how far a slow one may be behind.
      total_replay_bytes: The same, of all chats together.
      send_timeout_s: How long one frame may take to be sent before its client is given up.
      ping_interval_s: Pause between two pings.
      ping_timeout_s: How long a client may take to answer one.
      approval_timeout_s: How long a tool call waits for somebody's decision.
      park: Whether the turn is parked then, for whoever decides later; else the call is denied.
      drain_s: How long turns may go on after the gateway was asked to stop.
    """

    websocket_host: str = "127.0.0.1"
    websocket_port: int = 8765
    path: str = "/"
    http_host: str = "127.0.0.1"
    http_port: int = 18_790
    token: str = ""
    token_ttl_s: float = 300.0
    public_url: str = ""
    allowed_origins: tuple[str, ...] = ()
    max_connections: int = 2_000
    max_chats_per_connection: int = 100
    max_frame_chars: int = 36 * _MIB
    frames_per_s: float = 20.0
    max_queued: int = 20
    replay_bytes: int = _MIB
    total_replay_bytes: int = 256 * _MIB
    send_timeout_s: float = 20.0
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 20.0
    approval_timeout_s: float = 300.0
    park: bool = False
    drain_s: float = 10.0

    def checked(self) -> GatewaySettings:
        """The same settings.

        Raises:
          ConfigError: Others than this machine could connect without a token.
        """
        open_to = [host for host in (self.websocket_host, self.http_host) if not is_loopback(host)]
        if open_to and not self.token:
            raise ConfigError(
                f"The gateway would listen on {open_to[0]}, where others than this machine can reach it, and would"
                " ask nobody for a token. Set channels.websocket.token, or listen on 127.0.0.1."
            )
        return self

    @property
    def hosts(self) -> frozenset[str]:
        """The names by which a gateway without a token may be addressed."""
        return LOOPBACK_HOSTS | {self.websocket_host, self.http_host}

    def with_ports(self, *, websocket_port: int, http_port: int) -> GatewaySettings:
        """The same with the ports that were taken."""
        return replace(self, websocket_port=websocket_port, http_port=http_port)

    def origins(self) -> frozenset[str]:
        """The web pages that may connect: the gateway's own under each of its names, and those that are configured."""
        names = {self.http_host, *(LOOPBACK_HOSTS if is_loopback(self.http_host) else ())}
        own = {f"http://{f'[{name}]' if ':' in name else name}:{self.http_port}" for name in names}
        return frozenset(own | {origin.rstrip("/").lower() for origin in self.allowed_origins})


def gateway_settings(config: Config) -> GatewaySettings:
    """Read the settings of the gateway from a configuration.

    Raises:
      ConfigError: Others than this machine could connect without a token.
    """
    websocket, gateway = config.channels.websocket, config.gateway
    return GatewaySettings(
        websocket_host=websocket.host,
        websocket_port=websocket.port,
        path=websocket.path if websocket.path.startswith("/") else f"/{websocket.path}",
        http_host=gateway.host,
        http_port=gateway.port,
        token=websocket.token,
        token_ttl_s=websocket.token_ttl_s,
        public_url=websocket.public_url,
        allowed_origins=tuple(websocket.allowed_origins),
        max_connections=websocket.max_connections,
        max_frame_chars=websocket.max_message_bytes,
        frames_per_s=websocket.frames_per_s,
        replay_bytes=websocket.replay_bytes,
        ping_interval_s=websocket.ping_interval_s,
        ping_timeout_s=websocket.ping_timeout_s,
        approval_timeout_s=websocket.approval_timeout_s,
        park=config.tools.park_for_approval,
        drain_s=websocket.drain_s,
    )
