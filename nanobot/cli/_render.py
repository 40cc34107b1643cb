"""Markdown as a terminal shows it: quiet headings, code in the terminal's own colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.padding import Padding
from rich.segment import Segment
from rich.syntax import Syntax

__all__ = ["QuietMarkdown"]


class _QuietHeading(Heading):
    """At the left, bold, without a frame."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        self.text.stylize("bold underline" if self.tag == "h1" else "bold")
        yield self.text


class _QuietCode(CodeBlock):
    """Indented, on the terminal's own background."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = Syntax(
            str(self.text).rstrip(),
            self.lexer_name,
            theme="ansi_dark",
            background_color="default",
            word_wrap=True,
        )
        yield Padding(code, (0, 0, 0, 2))


class QuietMarkdown(Markdown):
    """Rich's markdown with our headings and code."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _QuietHeading,
        "fence": _QuietCode,
        "code_block": _QuietCode,
    }

    def __init__(self, text: str) -> None:
        super().__init__(text, code_theme="ansi_dark", hyperlinks=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Without the empty lines that Rich puts around lists and tables: whoever prints blocks knows the gaps."""
        segments = super().__rich_console__(console, options)
        lines = [*Segment.split_lines(_flat(console, options, segments))]
        while lines and _blank(lines[0]):
            del lines[0]
        while lines and _blank(lines[-1]):
            del lines[-1]
        for line in lines:
            yield from line
            yield Segment.line()


def _flat(
    console: Console, options: ConsoleOptions, parts: Iterable[RenderableType | Segment]
) -> Iterator[Segment]:
    for part in parts:
        if isinstance(part, Segment):
            yield part
        else:
            yield from console.render(part, options)


def _blank(line: list[Segment]) -> bool:
    return not any(segment.text.strip() for segment in line)
