"""What is logged of runs, and how: silent by default, facts as attributes, lines of JSON."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from nanobot import Nanobot, tool
from nanobot.runtime import JsonFormatter
from nanobot.sessions import InMemoryStore
from nanobot.testing import Answer, ScriptedProvider


def test_the_end_of_a_run_is_a_record_with_its_facts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nanobot.runs")
    with Nanobot.from_config(
        provider=ScriptedProvider(["canary"]), store=InMemoryStore(), workspace=tmp_path / "w"
    ) as bot:
        bot.run_sync("canary", session_key="a")
    (record,) = [record for record in caplog.records if record.name == "nanobot.runs"]
    facts = json.loads(JsonFormatter().format(record))
    assert facts["session_key"] == "a"
    assert facts["stop_reason"] == "completed"
    assert facts["total_tokens"] == 15
    assert facts["level"] == "INFO"
    assert "canary" not in json.dumps(facts)


def test_whatever_is_logged_in_a_run_names_its_session(tmp_path: Path) -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonFormatter().format(record))

    log = logging.getLogger("somebody.else")
    log.addHandler(Keep())

    @tool
    def note() -> str:
        """Note."""
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("noted %s", "it", extra={"size": 3})
        return "ok"

    answers: list[str | Answer | Exception] = [Answer(tool_calls=[("note", {})]), "Done."]
    with Nanobot.from_config(
        provider=ScriptedProvider(answers), store=InMemoryStore(), workspace=tmp_path / "w"
    ) as bot:
        bot.run_sync("Hi", session_key="a", tools=[note])
    facts = json.loads(lines[0])
    assert (facts["message"], facts["size"], facts["session_key"]) == ("noted it", 3, "a")
    assert "ValueError: no" in facts["error"]


def test_nothing_is_printed_unless_somebody_asks() -> None:
    program = """
import logging
import nanobot.runtime, actors
logging.getLogger("nanobot.agent").error("not to be seen")
logging.getLogger("actors.call").error("not to be seen")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == ("", "")
