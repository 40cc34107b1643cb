"""The text of a web page, as far as it goes without a library that knows pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

__all__ = ["page_text"]

_INVISIBLE: Final = frozenset({"script", "style", "noscript", "template", "svg", "math", "head"})
_BREAKS: Final = frozenset(
    (
        *("address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "fieldset"),
        *("figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6"),
        *("header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table"),
        *("tr", "ul"),
    )
)


class _Text(HTMLParser):
    """Collects what is to be seen, with a line break where a block begins or ends."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.title = ""
        self._invisible = ""  # the element that hides what is in it
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _INVISIBLE and tag != "head":
            self._invisible = self._invisible or tag
        elif tag == "title":
            self._in_title = not self.title
        elif tag in _BREAKS:
            self.pieces.append("\n- " if tag == "li" else "\n")
        elif tag in ("td", "th"):
            self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._invisible:
            self._invisible = ""
        elif tag == "title":
            self._in_title = False
        elif tag in _BREAKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._invisible:
            self.pieces.append(re.sub(r"\s+", " ", data))


def page_text(html: str) -> str:
    """The title and the visible text of a page, navigation and all. Any text is accepted; blocks."""
    reader = _Text()
    reader.feed(html)
    reader.close()
    lines = (re.sub(r" +", " ", line).strip() for line in "".join(reader.pieces).split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(line for line in lines if line not in ("", "-")))
    title = " ".join(reader.title.split())
    return f"{title}\n\n{text}" if title and not text.startswith(title) else text
