"""Every command with a fresh HOME, with what the existing nanobot left, and with a HOME that cannot be used."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from nanobot.testing import scripted_server

from .conftest import Invoke
from .terminal import NANOBOT

ONBOARDED = Path(__file__).parents[1] / "config" / "onboard.json"

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("status", "--json"),
    ("sessions", "list"),
    ("sessions", "show", "cli:direct"),
    ("sessions", "export", "--all"),
    ("sessions", "search", "word"),
    ("memory", "show"),
    ("memory", "history"),
    ("config", "path"),
    ("config", "get"),
    ("config", "schema"),
    ("completion", "bash"),
    ("agent", "-m", "Hello"),
    ("onboard", "--yes", "--no-check", "--provider", "openai"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_with_a_fresh_home_every_command_works_or_says_what_to_do(
    invoke: Invoke, command: tuple[str, ...]
) -> None:
    answer = invoke(*command)
    assert answer.exit_code in (0, 1)
    assert answer.exception is None or isinstance(answer.exception, SystemExit)
    if answer.exit_code == 1:
        said = answer.output if command[0] == "status" else answer.stderr
        assert "Do:" in said or "Nothing was found" in said or '"do"' in said


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_with_a_home_that_is_no_folder_every_command_fails_clearly(
    invoke: Invoke, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    answer = invoke(*command)
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    if command[0] == "completion" or command[1:] in (("path",), ("schema",)):
        assert answer.exit_code == 0  # which need no home
        return
    assert answer.exit_code == 1
    assert "Not a directory" in answer.output
    assert "Traceback" not in answer.output


@pytest.fixture
def old_home(home: Path) -> Path:
    """The configuration that the existing nanobot writes, and a session file beside it."""
    folder = home / ".nanobot"
    workspace = folder / "workspace"
    (workspace / "memory").mkdir(parents=True)
    (workspace / "memory" / "MEMORY.md").write_text("likes tea\n")
    (workspace / "memory" / "history.jsonl").write_text(
        '{"cursor": 1, "timestamp": "2026-01-01 10:00", "content": "Talked about tea."}\n'
    )
    (workspace / ".nanobot").mkdir()
    (workspace / ".nanobot" / "workspace-id").write_text("0123456789abcdef0123456789abcdef\n")
    shutil.copy(ONBOARDED, folder / "config.json")
    sessions = folder / "sessions" / "0123456789abcdef0123456789abcdef"
    sessions.mkdir(parents=True)
    (sessions / ".workspace").write_text(str(workspace))
    lines: list[dict[str, object]] = [
        {
            "_type": "metadata",
            "key": "cli:direct",
            "created_at": "2026-01-01T10:00:00",
            "updated_at": "2026-01-01T10:01:00",
            "metadata": {"title": "Tea"},
            "last_consolidated": 0,
        },
        {"role": "user", "content": "I like tea.", "timestamp": "2026-01-01T10:00:00"},
        {"role": "assistant", "content": "Noted.", "timestamp": "2026-01-01T10:01:00"},
    ]
    (sessions / "Y2xpOmRpcmVjdA.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    return home


def test_what_the_existing_nanobot_left_is_used_unchanged(invoke: Invoke, old_home: Path) -> None:
    config = old_home / ".nanobot" / "config.json"
    before = config.read_bytes()
    assert "0123456789abcdef" in invoke("status", "--json").stdout
    assert [
        json.loads(line)["key"] for line in invoke("sessions", "list", "--json").stdout.splitlines()
    ] == ["cli:direct"]
    assert invoke("sessions", "show", "cli:direct").stdout == "> I like tea.\n\nNoted.\n"
    assert "cli:direct" in invoke("sessions", "search", "tea").stdout
    assert invoke("memory", "show").stdout == "likes tea\n"
    assert "Talked about tea." in invoke("memory", "history").stdout
    assert invoke("config", "get", "gateway.port").exit_code == 0
    assert config.read_bytes() == before


def test_an_old_session_goes_on(invoke: Invoke, old_home: Path) -> None:
    with scripted_server(["You like tea."]) as server:
        assert invoke(
            "onboard", "--yes", "--no-check", "--provider", "mine", "--api-base", server.base_url,
            "--model", "mine/any",
        ).exit_code == 0  # fmt: skip
        assert invoke("agent", "-m", "What do I like?").stdout == "You like tea.\n"
        said = [message["content"] for message in server.requests[0].json["messages"]]
    assert "Talked about tea." in said[1]  # what history.jsonl has of no session
    assert "I like tea." in said[2]
    assert said[3] == "Noted."


def test_a_home_on_a_read_only_mount_is_a_clear_failure(home: Path) -> None:
    """A mode does not stop root; a mount does, where a namespace of one's own may be had."""
    inside = 'mount --bind "$HOME" "$HOME" && mount -o remount,ro,bind "$HOME" && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no mount namespace may be made here (unshare --user --mount)")
    for command in (
        ["status"],
        ["agent", "-m", "Hello"],
        ["sessions", "list"],
        ["memory", "show"],
        ["config", "set", "api.port", "1"],
        ["onboard", "--yes", "--no-check", "--provider", "openai"],
    ):
        ran = subprocess.run(
            ["env", "OPENAI_API_KEY=k", *unshare, *NANOBOT, *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 1, (command, ran)
        assert "ead-only" in ran.stdout + ran.stderr, (command, ran)
        assert "Traceback" not in ran.stderr, (command, ran.stderr)
