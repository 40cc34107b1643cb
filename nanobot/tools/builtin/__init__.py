"""The tools that come with nanobot."""

import os
from collections.abc import Mapping

from nanobot.config import ToolsSettings

from .._network import Network
from .._tool import Tool
from .apply_patch import apply_patch
from .edit_file import edit_file
from .exec import Shell
from .find_files import find_files
from .grep import grep
from .list_dir import list_dir
from .read_file import read_file
from .spawn import spawn
from .web_fetch import WebFetch
from .web_search import WebSearch, ask_duckduckgo
from .write_file import write_file

__all__ = [
    "Shell",
    "WebFetch",
    "WebSearch",
    "apply_patch",
    "builtin_tools",
    "edit_file",
    "find_files",
    "grep",
    "list_dir",
    "read_file",
    "spawn",
    "write_file",
]


def builtin_tools(
    settings: ToolsSettings | None = None, *, env: Mapping[str, str] | None = None
) -> tuple[Tool, ...]:
    """The built-in tools that the settings offer; by default all of them, as they are without a configuration.

    The file tools hold no state: each call is told its workspace by the `RunContext`. The others belong to one bot.

    Args:
      settings: The section `tools` of a configuration.
      env: Where the environment of commands is taken from, and keys of search services; None is the process's.
    """
    settings = ToolsSettings() if settings is None else settings
    env = os.environ if env is None else env
    tools: list[Tool] = []
    if settings.file.enable:
        tools += [apply_patch, edit_file, find_files, grep, list_dir, read_file, write_file]
    if settings.exec.enable:
        tools.append(Shell(settings, env).run)
    if (web := settings.web).enable:
        network = Network(
            allowed=settings.ssrf_whitelist, proxy=web.proxy, user_agent=web.user_agent or ""
        )
        ask = ask_duckduckgo(web.proxy, web.search.timeout)
        tools.append(WebFetch(network, use_jina_reader=web.fetch.use_jina_reader).fetch)
        tools.append(WebSearch(web.search, network, env, ask).search)
    tools.append(spawn)
    return tuple(tools)
