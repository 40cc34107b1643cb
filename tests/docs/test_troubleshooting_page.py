"""Every symptom on the page is provoked: it is printed as the page says, and the command named there works."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nanobot.cli import main
from nanobot.providers._catalog import CATALOG
from nanobot.testing import HttpResponse, scripted_server

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
SECTION = re.compile(r"^## (.+?)\n\n```text\n(.+?)\n```\n\n```sh\n(.+?)\n```", re.M | re.S)
SECTIONS = {
    title: (symptom, command) for title, symptom, command in SECTION.findall(PAGE.read_text())
}


class Stage:
    """A fresh HOME, and a way to run commands in it."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._monkeypatch = monkeypatch

    def setenv(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)

    def hide(self, package: str) -> None:
        """Make a package one that is not installed."""
        self._monkeypatch.setitem(sys.modules, package, None)

    def configure(self, text: str) -> None:
        (self.home / ".nanobot").mkdir()
        (self.home / ".nanobot" / "config.json").write_text(text)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    for entry in CATALOG.values():
        for variable in (*entry.env_keys, *entry.env_bases):
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Stage(tmp_path, monkeypatch)


MODEL = '"agents": {"defaults": {"model": "scripted/any"}}'
NO_RETRY = '{"defaults": {"model": "scripted/any", "retry": {"maxAttempts": 1}}}'


def no_model(stage: Stage) -> Result:
    stage.hide("xllamacpp")
    return stage.run("agent", "-m", "Hello!")


def refused_key(stage: Stage) -> Result:
    with scripted_server([HttpResponse(401), HttpResponse(401)]) as server:
        stage.configure(
            f'{{{MODEL}, "providers": {{"scripted": {{"apiBase": "{server.base_url}"}}}}}}'
        )
        assert "answered HTTP 401" in stage.run("status", "--check").output
        return stage.run("agent", "-m", "Hello!")


def unreachable(stage: Stage) -> Result:
    stage.configure(
        f'{{"agents": {NO_RETRY}, "providers": {{"scripted": {{"apiBase": "http://127.0.0.1:9/v1"}}}}}}'
    )
    return stage.run("agent", "-m", "Hello!")


def socks_proxy(stage: Stage) -> Result:
    stage.configure(
        '{"agents": {"defaults": {"model": "openai/gpt-4.1"}},'
        ' "providers": {"openai": {"apiKey": "k", "proxy": "socks5://127.0.0.1:7891"}}}'
    )
    refused = stage.run("agent", "-m", "Hello!")
    way_out = "config set providers.openai.proxy http://127.0.0.1:7890"
    assert f"`nanobot {way_out}`" in PAGE.read_text()
    assert stage.run(*way_out.split()).exit_code == 0
    assert stage.run("status").exit_code == 0
    return refused


def unusable(stage: Stage) -> Result:
    stage.configure('{"agents": {"defaults": {"maxTokens": "many"}}}')
    return stage.run("agent", "-m", "Hello!")


def missing_variable(stage: Stage) -> Result:
    stage.configure('{"providers": {"openai": {"apiKey": "${MY_KEY}"}}}')
    return stage.run("agent", "-m", "Hello!")


def unused_key(stage: Stage) -> Result:
    stage.setenv("OPENAI_API_KEY", "k")
    stage.configure('{"agents": {"defaults": {"temprature": 0.5}}}')
    return stage.run("status")


def several_providers(stage: Stage) -> Result:
    stage.setenv("OPENAI_API_KEY", "k")
    stage.setenv("DEEPSEEK_API_KEY", "k")
    return stage.run("agent", "-m", "Hello!")


def unknown_preset(stage: Stage) -> Result:
    stage.setenv("OPENAI_API_KEY", "k")
    return stage.run("agent", "-m", "Hello!", "--preset", "slow")


def missing_config(stage: Stage) -> Result:
    return stage.run("agent", "-m", "Hello!", "--config", "nowhere.json")


def unwritable_home(stage: Stage) -> Result:
    (stage.home / "file").write_text("")  # a mode would not stop root
    stage.setenv("HOME", str(stage.home / "file"))
    return stage.run("agent", "-m", "Hello!")


def workspace_around_config(stage: Stage) -> Result:
    stage.setenv("OPENAI_API_KEY", "k")
    assert "could change its own history" in stage.run("status", "-w", "~").output
    return stage.run("agent", "-m", "Hello!", "-w", "~")


def no_terminal(stage: Stage) -> Result:
    return stage.run("agent")


def no_matplotlib(stage: Stage) -> Result:
    stage.hide("matplotlib")
    return stage.run("eval", "cases.jsonl", "--plot", "out.png")


PROVOKE: dict[str, Callable[[Stage], Result]] = {
    "No model": no_model,
    "The key is refused": refused_key,
    "The service cannot be reached": unreachable,
    "A SOCKS proxy": socks_proxy,
    "A configuration that cannot be used": unusable,
    "A variable is missing": missing_variable,
    "A setting has no effect": unused_key,
    "Several providers": several_providers,
    "Unknown preset": unknown_preset,
    "The config is not found": missing_config,
    "The home cannot be written": unwritable_home,
    "The workspace contains the config": workspace_around_config,
    "No terminal": no_terminal,
    "Pictures of an evaluation": no_matplotlib,
}


def test_every_section_of_the_page_is_provoked() -> None:
    assert set(SECTIONS) == set(PROVOKE)
    assert len(SECTIONS) == PAGE.read_text().count("\n## ")


@pytest.mark.parametrize("title", PROVOKE)
def test_a_symptom_is_printed_as_the_page_says(title: str, stage: Stage) -> None:
    symptom, command = SECTIONS[title]
    answer = PROVOKE[title](stage)
    assert symptom in answer.output
    assert answer.exit_code == (0 if title == "A setting has no effect" else 1)
    assert "Traceback" not in answer.output
    words = command.split()
    if words[:2] in (["nanobot", "status"], ["nanobot", "config"]):
        looked = stage.run(*words[1:2], *[word for word in words[2:] if word != "--check"])
        assert looked.exit_code in (0, 1)
        assert looked.output.strip()
