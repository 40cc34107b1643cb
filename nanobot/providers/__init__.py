"""Model services: what the agent needs from one, and where it is.

The vendors' code lives in packages of its own (`nanobot.providers.openai_chat`), imported by name by whoever
needs one, so that importing this package stays cheap.
"""

from ._endpoint import Endpoint, Timeouts
from ._provider import DeltaStream, ModelRequest, Provider

__all__ = ["DeltaStream", "Endpoint", "ModelRequest", "Provider", "Timeouts"]
