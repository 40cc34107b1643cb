"""Tools of MCP servers: programs and services that speak the Model Context Protocol.

Source: https://modelcontextprotocol.io/specification/2025-11-25
"""

from ._servers import McpServers

__all__ = ["McpServers"]
