"""Read a line of shell as the shell would: which commands are in it, and with which words.

Sees into quotes, chains, subshells, `$(…)`, backticks, process substitution and here-documents. Expands nothing: what
a variable or a command stands for is not known before it runs, and is left as it is written.

Source: POSIX.1-2024, Shell Command Language, section 2; the Bash manual for `$'…'`, `<<<`, `<(…)`, `&>`.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct, field

__all__ = ["SimpleCommand", "TooIntricate", "commands_of"]

_DEEPEST: Final = 30
"""Substitutions inside each other. People write two."""

_MOST_COMMANDS: Final = 5_000
"""Commands of one text. A script of this length belongs in a file, and reading it takes 0.1 s."""

_ANSI_ESCAPE: Final = re.compile(
    r"\\(x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{1,4}|U[0-9A-Fa-f]{1,8}|[0-7]{1,3}|.)", re.DOTALL
)
_NAMED_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\033"}
_DELIMITERS: Final = frozenset(" \t\n;&|()<>")
_REDIRECTION: Final = re.compile(r"&>>|&>|<<<|<<-|<<|<>|<&|>>|>\||>&|<|>")


class TooIntricate(Exception):
    """The text nests deeper, or holds more commands, than anybody writes by hand."""


class SimpleCommand(Struct):
    """One command: a name with its arguments.

    Attributes:
      words: The words, without their quotes.
      writes_to: What its output is redirected to.
      is_fed: Text that it reads from a here-document or a here-string.
      source: The command as it stands in the text.
      piped_from: The command whose output it reads.
    """

    words: list[str] = field(default_factory=list)
    writes_to: list[str] = field(default_factory=list)
    is_fed: str = ""
    source: str = ""
    piped_from: SimpleCommand | None = None


def commands_of(text: str, *, most: int = _MOST_COMMANDS) -> list[SimpleCommand]:
    """Every command in a text, also those inside others; inner ones come before what they are part of.

    A text that is no valid shell, such as one with an open quote, is read as far as it makes sense.

    Raises:
      TooIntricate: There are more than `most`, or they nest more than 30 deep.
    """
    found: list[SimpleCommand] = []
    _Reader(text, found, 0, most).read("")
    return found


class _HereDocument(Struct):
    """A here-document whose text comes after the next line break."""

    command: SimpleCommand
    delimiter: str
    without_tabs: bool
    is_literal: bool


class _Reader:
    """Goes through a text once, from the left to the right."""

    def __init__(self, text: str, found: list[SimpleCommand], depth: int, most: int) -> None:
        if depth > _DEEPEST:
            raise TooIntricate
        self._text = text
        self._at = 0
        self._found = found
        self._depth = depth
        self._most = most
        self._current = SimpleCommand()
        self._start = 0
        self._documents: list[_HereDocument] = []
        self._parentheses = 0
        self._arithmetic = 0  # where << is no here-document

    def read(self, end: str, at: int = 0) -> int:
        """Read commands from `at` up to the character `end`, or the end of the text; return where that is."""
        self._at = self._start = at
        text = self._text
        while self._at < len(text):
            char = text[self._at]
            if char == end and not self._parentheses:
                break
            if char in " \t":
                self._at += 1
            elif text.startswith("\\\n", self._at):
                self._at += 2
            elif char == "\n":
                self._end_command()
                self._at += 1
                self._read_documents()
                self._start = self._at
            elif char == "#":
                line_end = text.find("\n", self._at)
                self._at = line_end if line_end >= 0 else len(text)
            elif match := _REDIRECTION.match(text, self._at):
                if match.group() in ("<", ">") and text.startswith("(", match.end()):
                    self._current.words.append(self._read_word())
                elif self._arithmetic:
                    self._at = match.end()
                else:
                    self._at = match.end()
                    self._redirect(match.group())
            elif char in ";&|()":
                self._separate(char)
            else:
                self._take(self._read_word())
        self._end_command()
        return self._at

    def _separate(self, char: str) -> None:
        before = self._current
        self._end_command()
        if char == "(":
            self._arithmetic += self._text.startswith("((", self._at)
            self._parentheses += 1
        elif char == ")" and self._parentheses:
            self._parentheses -= 1
            self._arithmetic = min(self._arithmetic, self._parentheses)
        pipe = char == "|" and not self._text.startswith("||", self._at)
        self._at += 1 if pipe or char in "()" else len(char)
        while self._at < len(self._text) and self._text[self._at] in ";&|" and char not in "()":
            self._at += 1
        if pipe:
            self._current.piped_from = before
        self._start = self._at

    def _end_command(self) -> None:
        command = self._current
        if command.words or command.writes_to or command.is_fed:
            if len(self._found) >= self._most:
                raise TooIntricate
            command.source = self._text[self._start : self._at].strip()
            self._found.append(command)
        self._current = SimpleCommand()

    def _take(self, word: str) -> None:
        if word.isdecimal() and self._text[self._at : self._at + 1] in ("<", ">"):
            return  # the number of a descriptor, as in 2>
        self._current.words.append(word)

    def _redirect(self, operator: str) -> None:
        text = self._text
        while text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1
        start = self._at
        target = self._read_word()
        if operator in ("<<", "<<-"):
            is_literal = any(c in text[start : self._at] for c in "'\"\\")
            document = _HereDocument(self._current, target, operator == "<<-", is_literal)
            self._documents.append(document)
        elif operator == "<<<":
            self._current.is_fed += target + "\n"
        elif ">" in operator:
            self._current.writes_to.append(target)

    def _read_documents(self) -> None:
        documents, self._documents = self._documents, []
        for document in documents:
            lines = []
            while self._at < len(self._text):
                end = self._text.find("\n", self._at)
                end = end if end >= 0 else len(self._text)
                line = self._text[self._at : end]
                self._at = min(end + 1, len(self._text))
                line = line.lstrip("\t") if document.without_tabs else line
                if line == document.delimiter:
                    break
                lines.append(line)
            body = "\n".join(lines)
            document.command.is_fed += body
            if not document.is_literal:
                inner = self._inner(body)
                while inner._at < len(body):
                    inner._read_expansion()

    def _read_word(self) -> str:
        """Read one word; at least one character, so that every loop ends."""
        text, pieces, start = self._text, [], self._at
        while self._at < len(text):
            char = text[self._at]
            if char == "'":
                end = text.find("'", self._at + 1)
                end = end if end >= 0 else len(text)
                pieces.append(text[self._at + 1 : end])
                self._at = end + 1
            elif char == '"':
                pieces.append(self._read_double_quoted())
            elif char == "$" and text.startswith("$'", self._at):
                pieces.append(self._read_ansi_quoted())
            elif char == "$" and text.startswith('$"', self._at):
                self._at += 1
            elif char in "<>" and text.startswith("(", self._at + 1) and self._at == start:
                self._at += 2
                self._substitute(")")
                pieces.append(f"{char}()")
            elif char in _DELIMITERS:
                break
            else:
                pieces.append(self._read_expansion())
        self._at = min(self._at, len(text))
        if self._at == start:
            self._at += 1
        return "".join(pieces)

    def _read_double_quoted(self) -> str:
        text, pieces = self._text, []
        self._at += 1
        while self._at < len(text) and text[self._at] != '"':
            if text[self._at] == "\\" and text[self._at + 1 : self._at + 2] not in tuple('$`"\\\n'):
                pieces.append("\\")
                self._at += 1
            else:
                pieces.append(self._read_expansion())
        self._at += 1
        return "".join(pieces)

    def _read_ansi_quoted(self) -> str:
        text, start = self._text, self._at + 2
        end = start
        while end < len(text) and text[end] != "'":
            end += 2 if text[end] == "\\" else 1
        self._at = end + 1
        return _ANSI_ESCAPE.sub(_unescaped, text[start:end])

    def _read_expansion(self) -> str:
        """Read one character, or what begins with `$`, a backtick or a backslash."""
        text, char = self._text, self._text[self._at]
        if char == "\\":
            self._at += 2
            following = text[self._at - 1 : self._at]
            return "" if following == "\n" else following or char
        if char == "`":
            return self._read_backticks()
        if text.startswith("$(", self._at):
            self._at += 2
            self._substitute(")")
            return "$()"
        if text.startswith("${", self._at):
            return self._read_parameter()
        self._at += 1
        return char

    def _read_parameter(self) -> str:
        text, start = self._text, self._at
        self._at += 2
        depth = 1
        while self._at < len(text) and depth:
            if text[self._at] in "{}":
                depth += 1 if text[self._at] == "{" else -1
                self._at += 1
            else:
                self._read_expansion()
        return text[start : self._at]

    def _read_backticks(self) -> str:
        text, start = self._text, self._at + 1
        end = start
        while end < len(text) and text[end] != "`":
            end += 2 if text[end] == "\\" else 1
        self._at = end + 1
        inner = re.sub(r"\\([$`\\])", r"\1", text[start:end])
        self._inner(inner).read("")
        return "$()"

    def _substitute(self, end: str) -> None:
        inner = self._inner(self._text)
        inner._arithmetic = int(self._text.startswith("(", self._at))
        self._at = inner.read(end, self._at) + 1

    def _inner(self, text: str) -> _Reader:
        return _Reader(text, self._found, self._depth + 1, self._most)


def _unescaped(match: re.Match[str]) -> str:
    code = match.group(1)
    if code[0] in "xuU" and len(code) > 1:
        value = int(code[1:], 16)
        return chr(value) if value < 0x110000 else ""
    if code[0] in "01234567":
        return chr(int(code, 8) & 0xFF)
    return _NAMED_ESCAPES.get(code, code)
