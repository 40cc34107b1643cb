"""The embedded model: llama.cpp's own server in a child process, started on demand, gone with the bot."""

from ._provider import LocalProvider
from ._wheels import INSTALL_COMMAND, missing_wheels

__all__ = ["INSTALL_COMMAND", "LocalProvider", "missing_wheels"]
