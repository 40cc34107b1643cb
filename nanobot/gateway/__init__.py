"""The gateway: many chats over one WebSocket, and a page to use them with. Needs the extra `server`."""

from ._gateway import Gateway
from ._settings import GatewaySettings, gateway_settings

__all__ = ["Gateway", "GatewaySettings", "gateway_settings"]
