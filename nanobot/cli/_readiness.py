"""What a bot would be made of, and the first reason why it could not run; found without making one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct, field

from nanobot.config import Config, McpServer, read_workspace_id, sessions_folder, state_folder
from nanobot.errors import NanobotError
from nanobot.providers._select import ModelSelection, select_model

from ._failure import Failure, failure_from_error
from ._instance import Instance

__all__ = ["Readiness", "look"]


class Readiness(Struct, kw_only=True, rename="camel"):
    """What `nanobot status` reports; no field ever holds a key, or a part of one.

    Attributes:
      ready: Whether a run could start.
      problem: Why not, in one line; "" if it could.
      do: What to do about it; "" if the problem says so itself.
      config_path, config_exists: The configuration file. One that was not named may be missing.
      workspace, workspace_exists: The folder tools work in. It is made when it is first needed.
      model, preset: As configured; preset is None without one.
      provider, address: Who serves the model, and where.
      key_source: Where the key is from: a path in the configuration or the name of a variable; "" without one.
      context_window_tokens, max_tokens: What the model may read and write.
      notice: What the user should know about the choice of model, or "".
      presets: The names of all presets.
      store: Where sessions are kept: `kind`, and `path` or `address`.
      tools: The names of the built-in tools that are on.
      mcp_servers: Name → `command` or address of each MCP server.
      telemetry: Whether runs are told to OpenTelemetry.
      captures_content: Whether what was said is told as well.
      unknown_keys: Keys of the configuration that nothing uses.
    """

    ready: bool = False
    problem: str = ""
    do: str = ""
    config_path: str = ""
    config_exists: bool = False
    workspace: str = ""
    workspace_exists: bool = False
    model: str = ""
    preset: str | None = None
    provider: str = ""
    address: str = ""
    key_source: str = ""
    context_window_tokens: int | None = None
    max_tokens: int | None = None
    notice: str = ""
    presets: list[str] = field(default_factory=list)
    store: dict[str, str] = field(default_factory=dict)
    tools: list[str] = field(default_factory=list)
    mcp_servers: dict[str, str] = field(default_factory=dict)
    telemetry: bool = False
    captures_content: bool = False
    unknown_keys: list[str] = field(default_factory=list)


def look(instance: Instance, env: Mapping[str, str]) -> Readiness:
    """Find out what a run would use. Reads the configuration, and writes nothing."""
    found = Readiness()
    try:
        config = instance.load()
        _fill_config(found, instance, config, env)
        _fill_model(
            found, select_model(config, model=instance.model, model_preset=instance.preset, env=env)
        )
        _refuse_what_cannot_start(found, config)
    except Failure as failure:
        found.problem, found.do = failure.message, failure.do
    except NanobotError as error:
        told = failure_from_error(error)
        found.problem, found.do = told.message, told.do
    found.ready = not found.problem
    return found


def _fill_config(
    found: Readiness, instance: Instance, config: Config, env: Mapping[str, str]
) -> None:
    found.config_path = str(config.path)
    found.config_exists = config.source is not None
    found.unknown_keys = [*config.unknown_keys]
    found.presets = [*config.model_presets]
    found.mcp_servers = {name: _place(server) for name, server in config.tools.mcp_servers.items()}
    found.tools = _tool_names(config, env)
    found.telemetry = config.telemetry.enabled
    found.captures_content = found.telemetry and config.telemetry.capture_content
    workspace = instance.workspace_path(config)
    found.workspace = str(workspace)
    found.workspace_exists = workspace.is_dir()
    found.store = _store(config, workspace)


def _fill_model(found: Readiness, selection: ModelSelection) -> None:
    found.model = selection.display_model
    found.preset = selection.preset
    found.provider = selection.provider_name
    found.address = _without_secrets(selection.endpoint.base_url)
    found.key_source = selection.key_source
    found.context_window_tokens = selection.context_window_tokens
    found.max_tokens = selection.max_tokens
    found.notice = selection.notice


def _refuse_what_cannot_start(found: Readiness, config: Config) -> None:
    if found.provider == "local" and not found.address:
        # deferred: only for those who have no other model
        from nanobot.providers.local import INSTALL_COMMAND, missing_wheels

        if missing_wheels():
            found.notice = ""
            raise Failure(
                "No model: no provider has a key, and the embedded model is not installed.",
                f"Run `nanobot onboard`, set a key such as OPENAI_API_KEY, or: {INSTALL_COMMAND}",
            )
    state = Path(os.path.realpath(found.config_path)).parent
    if (state / "sessions").is_relative_to(os.path.realpath(found.workspace)):
        raise Failure(
            f"The workspace {found.workspace} contains {state / 'sessions'}, so the agent's tools could change its own"
            " history.",
            "Name a workspace beside the configuration with --workspace.",
        )
    for folder in (Path(found.workspace), Path(found.config_path).parent):
        _refuse_unwritable(folder)


def _refuse_unwritable(folder: Path) -> None:
    """Find the part of the path that exists, and see whether the rest could be made there."""
    standing = folder
    while not os.path.lexists(standing) and standing != standing.parent:
        standing = standing.parent
    if not standing.is_dir():
        raise Failure(
            f"{folder} cannot be made: {standing} is no folder.",
            "Set HOME to a folder, or name others with --config and --workspace.",
        )
    if not os.access(standing, os.W_OK | os.X_OK):
        raise Failure(
            f"{folder} cannot be written: {standing} is read-only.",
            "Set HOME to a folder that can be written, or name others with --config and --workspace.",
        )


def _store(config: Config, workspace: Path) -> dict[str, str]:
    kind = config.sessions.store
    if kind == "postgres":
        return {"kind": kind, "address": _without_secrets(config.sessions.url or "")}
    if kind == "memory" or config.path is None:
        return {"kind": kind}
    claimed = read_workspace_id(workspace)  # the first run gives the workspace its id
    folder = sessions_folder(config.path, claimed) if claimed else state_folder(config.path)
    return {"kind": kind, "path": str(folder)}


def _tool_names(config: Config, env: Mapping[str, str]) -> list[str]:
    from nanobot.tools.builtin import builtin_tools  # deferred: a broken configuration needs none

    return [tool.spec.name for tool in builtin_tools(config.tools, env=env)]


def _place(server: McpServer) -> str:
    """Where an MCP server is; its arguments are left out, because tokens are passed in them."""
    return _without_secrets(server.url) if server.url else server.command


def _without_secrets(address: str) -> str:
    """An address without user, password and query, where services keep keys."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        netloc = (f"[{host}]" if ":" in host else host) + (f":{parts.port}" if parts.port else "")
    except ValueError:  # an address that is none; the selection says so
        return ""
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))
