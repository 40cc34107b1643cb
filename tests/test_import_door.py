"""What the front door brings along: `import nanobot` costs next to nothing, and each name only what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nanobot.testing import scripted_server

HEAVY = ("httpx", "h11", "click", "typer", "rich", "trio", "asyncio", "msgspec", "trio_websocket")
VENDORS = tuple(
    f"nanobot.providers.{name}" for name in ("openai", "anthropic", "local", "_http", "_transport")
)

PROGRAM = """
import json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_of(statement: str) -> set[str]:
    """The modules that a statement brings into a fresh interpreter."""
    program = PROGRAM.format(statement=statement)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(json.loads(ran.stdout))


def tops_of(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_import_nanobot_brings_nothing_heavy_and_nothing_of_its_own() -> None:
    modules = modules_of("import nanobot")
    assert not tops_of(modules) & set(HEAVY)
    assert {name for name in modules if name.startswith("nanobot")} == {
        "nanobot",
        "nanobot._version",
    }
    assert "actors" not in tops_of(modules)


def test_the_bot_brings_the_engine_and_no_http_client_no_vendor_and_no_command_line() -> None:
    modules = modules_of("from nanobot import Nanobot")
    assert not tops_of(modules) & {"httpx", "h11", "click", "typer", "rich", "trio_websocket"}
    assert [name for name in modules if name.startswith(VENDORS)] == []
    for part in ("cli", "server", "gateway", "testing"):
        assert f"nanobot.{part}" not in modules
    assert "trio" in modules  # or this test looks at the wrong thing


@pytest.mark.parametrize("name", ["STREAM_EVENT_TEXT_DELTA", "RunResult", "StreamEvent"])
def test_a_name_of_an_event_or_a_result_brings_no_http_client_either(name: str) -> None:
    modules = modules_of(f"from nanobot import {name}")
    assert not tops_of(modules) & {"httpx", "click", "rich"}
    assert "nanobot.sdk" not in modules


def test_making_a_bot_does_not_load_a_client_that_may_never_be_needed() -> None:
    statement = """
from pathlib import Path
from tempfile import TemporaryDirectory
from nanobot import Nanobot
with TemporaryDirectory() as folder:
    config = Path(folder, "config.json")
    config.write_text('{"providers": {"mine": {"apiBase": "http://127.0.0.1:9/v1"}}}')
    Nanobot.from_config(config, workspace=Path(folder, "workspace"), model="mine/model")
    assert not Path(folder, "sessions").exists()
"""
    assert not tops_of(modules_of(statement)) & {"httpx", "h11", "click", "rich", "sqlite3"}


NOT_FOR_A_PLAIN_TURN = frozenset(
    {
        "anyio",
        "asyncio",
        "click",
        "h11",
        "httpcore",
        "httpx",
        "json_repair",
        "mcp",
        "opentelemetry",
        "prompt_toolkit",
        "psycopg",
        "pygments",
        "rich",
        "starlette",
        "trio_websocket",
    }
)


def test_a_first_turn_over_http_brings_no_http_client_no_other_loop_and_no_repair(
    tmp_path: Path,
) -> None:
    with scripted_server(lambda _: "Hello.") as server:
        config = {
            "agents": {"defaults": {"model": "mine/model", "workspace": str(tmp_path / "work")}},
            "providers": {"mine": {"apiBase": server.base_url}},
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        modules = modules_of(f"""
from nanobot import Nanobot
with Nanobot.from_config({str(tmp_path / "config.json")!r}) as bot:
    assert bot.run_sync("Hi").content == "Hello."
""")
    assert not tops_of(modules) & NOT_FOR_A_PLAIN_TURN
    assert {"trio", "sqlite3"} <= modules  # or this test looks at the wrong thing
    vendors = {name for name in modules if name.startswith("nanobot.providers.openai_chat")}
    assert vendors
    for part in ("anthropic", "openai_responses", "local", "_transport", "_images"):
        assert f"nanobot.providers.{part}" not in modules, part


def test_an_answer_that_a_program_reads_brings_no_markdown() -> None:
    modules = modules_of("import nanobot.cli._agent, nanobot.cli._once")
    assert not tops_of(modules) & {"markdown_it", "prompt_toolkit", "pygments", "httpx", "asyncio"}
    assert "rich" in modules  # or this test looks at the wrong thing
