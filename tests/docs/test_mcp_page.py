"""The programs on the page about MCP, put together as it says, print what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nanobot.config import McpServer
from nanobot.testing import Answer, RecordedRequest, scripted_server
from nanobot.tools.mcp._process import environment_of

PAGE = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text()
SERVER, PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(SETTINGS,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
(PRINTED,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)


def answer(request: RecordedRequest) -> Answer | str:
    if request.last_role == "tool":
        return f"It is {request.json['messages'][-1]['content']}."
    return Answer(tool_calls=[("mcp_clock_now", {"zone": "Asia/Tokyo"})])


def test_the_example_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / ".nanobot").mkdir()
    (tmp_path / "clock.py").write_text(SERVER)
    with scripted_server(answer) as server:
        config = json.loads(SETTINGS) | {
            "agents": {"defaults": {"model": "openai/gpt-4.1-mini"}},
            "providers": {"openai": {"apiKey": "sk-test", "apiBase": server.base_url}},
        }
        (tmp_path / ".nanobot" / "config.json").write_text(json.dumps(config))
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            check=False,
        )
    assert (ran.stdout, ran.returncode) == (PRINTED, 0), ran.stderr


def test_the_page_names_every_setting_and_every_variable_that_a_server_sees() -> None:
    for name in McpServer.__struct_fields__:
        camel = re.sub("_(.)", lambda found: found[1].upper(), name)
        assert f"`{camel}`" in PAGE
    env = dict.fromkeys(re.findall(r"`([A-Z][A-Z_]+)`", PAGE), "x")
    assert environment_of(McpServer(), {**env, "MORE": "x"}).keys() == env.keys()
