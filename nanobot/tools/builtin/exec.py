"""`exec`: run a line of shell."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

from nanobot.config import ToolsSettings
from nanobot.errors import ToolError, ToolTimedOut

from .._run_context import RunContext
from .._threads import in_file_thread
from .._tool import tool
from .._truncate import cut_middle
from ._command import Ended, run_command
from ._command_policy import CommandPolicy
from ._environment import environment_for
from ._output import Output
from ._sandbox import Sandbox, sandboxed, why_no_sandbox

__all__ = ["Shell"]

ShellName: TypeAlias = Literal["auto", "bash", "sh", "zsh"]

_MOST_CHARS: Final = 200_000
"""Of each stream. What does not fit into the conversation is kept in a file, where the model can search it."""


class Shell:
    """What runs commands for one bot, as its settings say.

    By default commands run with the rights of the user, in a minimal environment, in the workspace; the deny-list stops
    accidents and is no boundary. `tools.exec.sandbox: "bwrap"`, or `tools.restrictToWorkspace: true` in so many words,
    puts each command into a sandbox; where there is none, nothing is run.
    """

    def __init__(self, settings: ToolsSettings, env: Mapping[str, str]) -> None:
        """Run nothing yet. `env` is where the environment of commands is taken from."""
        self._settings = settings.exec
        self._must_confine = settings.restrict_to_workspace is True or bool(settings.exec.sandbox)
        self._reason = (
            f"tools.exec.sandbox is {settings.exec.sandbox!r}"
            if settings.exec.sandbox
            else "tools.restrictToWorkspace is true"
        )
        self._environment = environment_for(settings.exec, env)
        self._policy = CommandPolicy(settings.exec.allow_patterns, settings.exec.deny_patterns)
        self._find = _find_bwrap
        self._sandbox_works = False

    @tool(name="exec", exclusive=True, on_host=False)
    async def run(
        self,
        context: RunContext,
        command: Annotated[str, Meta(description="Line of shell, or several.")],
        working_dir: Annotated[
            str, Meta(description="Where it runs, relative to the workspace.")
        ] = ".",
        timeout: Annotated[  # noqa: ASYNC109 - what models know it by
            int, Meta(ge=0, le=600, description="Seconds it may take; 0: the usual time.")
        ] = 0,
        shell: Annotated[ShellName, Meta(description="auto: bash, else sh.")] = "auto",
        login: Annotated[bool, Meta(description="Read the profile of the shell first.")] = False,
        max_output_chars: Annotated[
            int,
            Meta(ge=1000, le=_MOST_CHARS, description="Most to keep of stdout and of stderr."),
        ] = _MOST_CHARS,
    ) -> str:
        """Run a command in a shell and return what it wrote, and its exit code.

        There is no stdin. What it leaves in the background is ended when it ends.
        """
        timeout_s = float(timeout or self._settings.timeout or math.inf)

        def prepared() -> tuple[str, str]:
            self._policy.check(command)
            return _folder(context, working_dir), self._shell(shell)

        folder, program = await in_file_thread(prepared)
        arguments = [program, *(["-l"] if login else []), "-c", command]
        if self._must_confine:
            arguments = await self._confined(context, arguments, folder)
        output, errors = Output(max_output_chars), Output(max_output_chars)
        ended = await run_command(
            arguments,
            folder=folder,
            environment=self._environment,
            timeout_s=timeout_s,
            output=output,
            errors=errors,
        )
        return _told(ended, output, errors, timeout_s)

    def _shell(self, name: str) -> str:
        for each in ("bash", "sh") if name == "auto" else (name,):
            if found := shutil.which(each, path=self._environment["PATH"]):
                return found
        raise ToolError(f"There is no {'shell' if name == 'auto' else name} here.")

    async def _confined(self, context: RunContext, arguments: list[str], folder: str) -> list[str]:
        workspace = await in_file_thread(lambda: Path(os.path.realpath(context.workspace)))
        hidden = context.confined.forbidden
        bwrap, existing = await in_file_thread(lambda: (self._find(workspace), _existing(hidden)))
        if bwrap is None or not self._sandbox_works:
            if reason := await why_no_sandbox(bwrap):
                raise ToolError(
                    f"{self._reason}, and a command cannot be confined here: {reason}. It was not run."
                )
            self._sandbox_works = True
        assert bwrap is not None  # else there was a reason
        sandbox = Sandbox.from_settings(self._settings, workspace, str(context.workspace))
        return sandboxed(bwrap, sandbox, arguments, folder, hidden=existing)


def _folder(context: RunContext, working_dir: str) -> str:
    with context.confined.open_folder(working_dir):
        return os.path.realpath(context.workspace / working_dir)


def _find_bwrap(workspace: Path) -> str | None:
    """Where bubblewrap is, but for the workspace, where anybody may put anything."""
    found = shutil.which("bwrap")
    if found is None or Path(found).resolve().is_relative_to(workspace):
        return None
    return found


def _existing(paths: tuple[str, ...]) -> list[str]:
    return [f"{path}/" if Path(path).is_dir() else path for path in paths if Path(path).exists()]


def _told(ended: Ended, output: Output, errors: Output, timeout_s: float) -> str:
    """What the model is told.

    Raises:
      ToolTimedOut, ToolError: The command was ended; what it wrote until then is in the text.
    """
    said = output.text.rstrip("\n")
    if errors.size:
        said += f"{chr(10) if said else ''}STDERR:\n{errors.text.rstrip()}"
    if ended.ending == "exited":
        return f"{said}{chr(10) if said else ''}\nExit code: {ended.exit_code}"
    until_then = f" Until then it wrote:\n{cut_middle(said, 8000, '[…]')}" if said else ""
    if ended.ending == "timed_out":
        raise ToolTimedOut(
            f"Command timed out after {timeout_s:g} seconds and was ended, with all it had started.{until_then}"
        )
    raise ToolError(
        f"The command wrote more than {output.size + errors.size:,} bytes and was ended. Let it write less, or to a file."
        f"{until_then}"
    )
