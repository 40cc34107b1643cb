"""`nanobot onboard --wizard`: one step after the other, a way back from each, and a look at all of it before it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import click
from msgspec import Struct
from rich.text import Text

from nanobot.config import Config, ReasoningEffort
from nanobot.providers._catalog import ProviderEntry
from nanobot.providers._configured import Configured, find_provider

from ._console import shown_path, to_stderr
from ._failure import Failure
from ._onboarding import Answers, changes, tree_from_answers, usual_model
from ._prompts import BACK, Back, ask_key, ask_provider, ask_text, ask_yes
from ._served_models import served_models

__all__ = ["ask_in_steps"]

_LISTED: Final = 20
_SERVICES_OWN: Final = "service"
"""Stands for no wish: the service decides how much the model reasons."""


class _Draft(Struct):
    """What was answered so far. Proposals of a step are what it was answered before, if anything."""

    entry: ProviderEntry
    one: Configured | None = None
    base: str = ""
    key: str = ""
    model: str = ""
    effort: str = _SERVICES_OWN
    commands: bool = True
    confined: bool = False
    workspace: str = ""

    def answers(self, config: Config) -> Answers:
        """All of it; settings that are as configured already need no entry in the file."""
        defaults, tools = config.agents.defaults, config.tools
        effort = None if self.effort == _SERVICES_OWN else self.effort
        wanted = (
            (("agents", "defaults", "reasoningEffort"), effort, defaults.reasoning_effort),
            (("tools", "exec", "enable"), self.commands, tools.exec.enable),
            (("tools", "restrictToWorkspace"), self.confined, bool(tools.restrict_to_workspace)),
        )
        return Answers(
            provider=self.entry.name,
            model=self.model,
            key=self.key,
            base=self.base,
            workspace=self.workspace,
            settings={keys: value for keys, value, standing in wanted if value != standing},
        )


class _Wizard:
    def __init__(self, config: Config, configured: tuple[Configured, ...], draft: _Draft) -> None:
        self.config = config
        self.configured = configured
        self.draft = draft

    def provider(self) -> None:
        """Who serves the model."""
        self.draft.entry = ask_provider(self.draft.entry.name, self.configured, back=True)
        self.draft.one = find_provider(self.draft.entry.name, self.configured)
        self.draft.key = ""

    def address(self) -> None:
        """Where the service is."""
        entry, one = self.draft.entry, self.draft.one
        if entry.kind == "local":
            click.echo("On this machine; nothing to say.", err=True)
            return
        standing = self.draft.base or (one.base_url if one else "") or entry.base_url
        said = ask_text("Address (with /v1)", standing or None, back=True)
        # What the provider is known for needs no entry in the file.
        self.draft.base = "" if said == entry.base_url else said

    def key(self) -> None:
        """What the service knows you by; kept in a file that only you can read, or in a variable."""
        self.draft.key = ask_key(self.draft.entry, self.draft.one, back=True)

    def model(self) -> None:
        """What answers."""
        entry = self.draft.entry
        proposed = self.draft.model
        if not proposed.startswith(f"{entry.name}/"):
            proposed = usual_model(entry)
        found = served_models(entry, self.draft.one, base=self.draft.base, key=self.draft.key)
        for number, name in enumerate(found.names[:_LISTED], start=1):
            to_stderr().print(Text.assemble((f"  {number:>2}  ", "cyan"), name))
        more = len(found.names) - _LISTED
        told = found.problem or (f"  and {more} more, by name" if more > 0 else "")
        if told:
            click.echo(told, err=True)
        said = ask_text("Model", proposed or None, back=True)
        if said.isdigit() and 1 <= int(said) <= min(_LISTED, len(found.names)):
            said = found.names[int(said) - 1]
        self.draft.model = said if said.startswith(f"{entry.name}/") else f"{entry.name}/{said}"

    def effort(self) -> None:
        """How hard it thinks."""
        known = (_SERVICES_OWN, *get_args(ReasoningEffort))
        click.echo(f"  {', '.join(known)}", err=True)
        while True:
            said = ask_text("Effort", self.draft.effort, back=True)
            if said in known:
                self.draft.effort = said
                return
            click.echo(f"One of: {', '.join(known)}", err=True)

    def permissions(self) -> None:
        """What the agent may do on this machine."""
        self.draft.commands = ask_yes("May it run commands", self.draft.commands, back=True)
        self.draft.confined = ask_yes(
            "Keep its files and commands inside the workspace", self.draft.confined, back=True
        )

    def workspace(self) -> None:
        """The folder it works in."""
        self.draft.workspace = ask_text("Workspace", self.draft.workspace, back=True)


def ask_in_steps(
    path: Path,
    tree: Mapping[str, Any],
    config: Config,
    configured: tuple[Configured, ...],
    given: Answers,
) -> Answers:
    """Ask for everything in steps, then show what would change and ask whether to write it.

    Args:
      path: The configuration file.
      tree: What is in it.
      config: The same, as settings.
      configured: The providers, with what is set for them.
      given: What the options say; it is proposed.

    Raises:
      Failure: It is not to be written.
    """
    defaults = config.agents.defaults
    provider = given.provider or defaults.provider
    one = find_provider(provider, configured)
    draft = _Draft(
        entry=one.entry if one else ProviderEntry(name=provider, label=provider),
        one=one,
        base=given.base,
        key=given.key,
        model=given.model or defaults.model or "",
        effort=defaults.reasoning_effort or _SERVICES_OWN,
        commands=config.tools.exec.enable,
        confined=bool(config.tools.restrict_to_workspace),
        workspace=given.workspace or defaults.workspace,
    )
    wizard = _Wizard(config, configured, draft)
    steps: tuple[Callable[[], None], ...] = (
        *(wizard.provider, wizard.address, wizard.key, wizard.model),
        *(wizard.effort, wizard.permissions, wizard.workspace),
    )
    console = to_stderr()
    console.print(Text.assemble(("nanobot", "bold"), f"  {shown_path(path)}"))
    console.print(
        Text(
            f"Enter takes what stands in brackets, {BACK} goes a step back, Ctrl-C leaves everything as it is.",
            "dim",
        )
    )
    at = 0
    while True:
        try:
            if at < len(steps):
                title = f"\nStep {at + 1} of {len(steps)}  {steps[at].__doc__}"
                console.print(Text(title, "bold"))
                steps[at]()
            else:
                return _confirmed(tree, draft.answers(config))
            at += 1
        except Back:
            at = max(0, at - 1)


def _confirmed(tree: Mapping[str, Any], answers: Answers) -> Answers:
    """Show what would change, keys hidden, and return the answers if that is to be written."""
    console = to_stderr()
    console.print(Text("\nThis will be written", "bold"))
    made = changes(tree, tree_from_answers(tree, answers))
    for key, (before, after) in made.items():
        console.print(Text.assemble(f"  {key}  ", (before, "dim"), " → ", (after, "green")))
    if not made:
        console.print("  nothing that is not there already")
    if not ask_yes("Write it", True, back=True):
        raise Failure("Nothing was written.", f"Run it again; {BACK} goes a step back.")
    return answers
