"""`nanobot onboard`: from nothing to a configuration that was seen to work."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from nanobot.config import (
    config_from_tree,
    default_config_path,
    expanded,
    read_tree,
    workspace_path,
    write_config,
)
from nanobot.providers._configured import configured_providers, find_provider

from ._check import Check
from ._check import check as make_check
from ._console import shown_path, to_stderr
from ._failure import Failure
from ._instance import Instance
from ._onboarding import Answers, entry_from_name, tree_from_answers, usual_model
from ._prompts import ask_key, ask_provider, ask_text

__all__ = ["onboard"]


@click.command()
@click.option("-c", "--config", metavar="FILE", help="Configuration to write.")
@click.option("-w", "--workspace", metavar="FOLDER", help="Folder that tools work in.")
@click.option("--provider", metavar="NAME", help="Who serves the model.")
@click.option("--model", metavar="MODEL", help="Model to use.")
@click.option(
    "--key-env", metavar="VARIABLE", help="Variable that holds the key; stored as ${VARIABLE}."
)
@click.option("--api-base", metavar="URL", help="Address of the service, for one of your own.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; needs --provider.")
@click.option(
    "--wizard",
    is_flag=True,
    help="Step by step, with a way back and a look at the result.",
)
@click.option("--check/--no-check", default=True, show_default=True, help="Make one real request.")
def onboard(
    config: str | None,
    workspace: str | None,
    provider: str | None,
    model: str | None,
    key_env: str | None,
    api_base: str | None,
    yes: bool,
    wizard: bool,
    check: bool,
) -> None:
    """Choose a provider, a key, a model and a workspace, and see that they work.

    Keys are asked for without being shown, and stored in a file that only you can read, or as a reference to a variable.
    What the configuration says besides stays as it is; so run this again at any time.
    """
    path = default_config_path() if config is None else expanded(config)
    tree = _tree(path)
    given = Given(provider, model, key_env, api_base, workspace)
    if not yes and not sys.stdin.isatty():
        raise Failure(
            "There is no terminal to ask at.",
            "For scripts: nanobot onboard --yes --provider NAME --key-env VARIABLE",
        )
    answers = _answers_from_options(given) if yes else _ask(path, tree, given, wizard=wizard)
    new = tree_from_answers(tree, answers)
    # Refuses what could not be read again. That a variable is set is seen by the check, if one is wanted.
    config_from_tree(new, path=path, env=_Anything(os.environ))
    if check:
        _check(new, path, yes=yes)
    write_config(new, path)
    _make_workspace(new, path)
    click.echo(f"Written: {shown_path(path)}", err=True)
    click.echo('Next:    nanobot agent -m "Hello!"', err=True)


class Given:
    """What the options say; None was not said."""

    def __init__(
        self,
        provider: str | None,
        model: str | None,
        key_env: str | None,
        base: str | None,
        workspace: str | None,
    ) -> None:
        self.provider = provider
        self.model = model
        self.key_env = key_env
        self.base = base
        self.workspace = workspace

    @property
    def key(self) -> str:
        """The reference to store."""
        return f"${{{self.key_env}}}" if self.key_env else ""


def _tree(path: Path) -> dict[str, Any]:
    try:
        return read_tree(path)
    except FileNotFoundError:
        return {}


def _answers_from_options(given: Given) -> Answers:
    if given.provider is None:
        raise click.UsageError("--yes needs --provider.")
    entry = entry_from_name(given.provider)
    model = given.model or usual_model(entry)
    if not model:
        raise click.UsageError(f"{entry.name} has no usual model: say --model {entry.name}/...")
    return Answers(
        provider=entry.name,
        model=model,
        key=given.key,
        base=given.base or "",
        workspace=given.workspace or "",
    )


def _ask(path: Path, tree: Mapping[str, Any], given: Given, *, wizard: bool) -> Answers:
    """Ask for what the options did not say; what the configuration says is proposed."""
    config = config_from_tree(tree, path=path, env=_Anything(os.environ))
    configured = configured_providers(config, os.environ)
    if wizard:
        # deferred: only the wizard needs its steps
        from ._wizard import ask_in_steps

        said = Answers(
            provider=given.provider or "",
            model=given.model or "",
            key=given.key,
            base=given.base or "",
            workspace=given.workspace or "",
        )
        return ask_in_steps(path, tree, config, configured, said)
    console = to_stderr()
    console.print(Text.assemble(("nanobot", "bold"), f"  {shown_path(path)}"))
    console.print(
        Text("Enter takes what stands in brackets, Ctrl-C leaves everything as it is.\n", "dim")
    )
    entry = (
        ask_provider(config.agents.defaults.provider, configured)
        if given.provider is None
        else entry_from_name(given.provider)
    )
    one = find_provider(entry.name, configured)
    base = given.base or ""
    if given.base is None and not entry.base_url and entry.kind != "local":
        standing = one.base_url if one else ""
        base = ask_text("Address of the service (with /v1)", standing or None)
    key = ask_key(entry, one) if given.key_env is None else given.key
    current = config.agents.defaults.model or ""
    proposed = current if current.startswith(f"{entry.name}/") else usual_model(entry)
    model = ask_text("Model", proposed or None) if given.model is None else given.model
    workspace = (
        ask_text("Workspace", config.agents.defaults.workspace)
        if given.workspace is None
        else given.workspace
    )
    return Answers(provider=entry.name, model=model, key=key, base=base, workspace=workspace)


class _Anything(dict[str, str]):
    """An environment in which every variable is set: what a file refers to may be set later."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> str:
        return ""


def _check(tree: Mapping[str, Any], path: Path, *, yes: bool) -> None:
    """Make one real request with the new configuration, before anything is written where it counts."""
    click.echo("Asking the model …", err=True)
    made = _checked(tree)
    if made.ok:
        click.echo(f"It answered after {made.seconds:.1f} s.", err=True)
        return
    failure = Failure(made.error, made.do)
    if yes:
        raise Failure(f"{failure.message} Nothing was written to {shown_path(path)}.", failure.do)
    failure.show()
    if not click.confirm("Write the configuration all the same?", default=False, err=True):
        raise Failure("Nothing was written.", "Run it again: nanobot onboard")


def _checked(tree: Mapping[str, Any]) -> Check:
    with tempfile.TemporaryDirectory(prefix="nanobot-onboard-") as folder:
        trial = Path(folder, "state", "config.json")
        write_config(tree, trial)
        return make_check(Instance(config=str(trial), workspace=str(Path(folder, "workspace"))))


def _make_workspace(tree: Mapping[str, Any], path: Path) -> None:
    config = config_from_tree(tree, path=path, env=_Anything(os.environ))
    folder = workspace_path(config.agents.defaults.workspace)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(
            f"The workspace {folder} cannot be made: {error.strerror}.",
            "Choose another one: nanobot config set agents.defaults.workspace FOLDER",
        ) from error
