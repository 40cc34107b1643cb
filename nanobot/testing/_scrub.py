"""Taking secrets out of what is written to files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["SECRET", "Scrubber"]

SECRET: Final = "<secret>"

_SECRET_NAMES: Final = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_LEAST_CHARS: Final = 8
"""Values of variables that are shorter ("1", "true", "local") stand in ordinary texts."""

_CUT_BEFORE: Final = re.compile(r"\Z|(?=\n\[)|(?=[ ]?…)")
_CUT_AFTER: Final = re.compile(r"\A|(?<=\]\n)|(?<=…)|(?<=…\s)")
"""Where a text may have been cut: at its ends, at a notice such as `[The beginning and the end of …]`, at an ellipsis."""

_PATTERNS: Final = re.compile(
    r"""
      \b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}                  # OpenAI, Anthropic and many others
    | \b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}           # GitHub
    | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bxox[abeoprs]-[A-Za-z0-9-]{10,}                     # Slack
    | \bAKIA[0-9A-Z]{16}\b                                 # AWS
    | \bAIza[0-9A-Za-z_-]{30,}                             # Google
    | \bhf_[A-Za-z0-9]{20,}                                # Hugging Face
    | \bgsk_[A-Za-z0-9]{20,}                               # Groq
    | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*   # JSON web tokens
    | (?<=[Bb]earer\s)[A-Za-z0-9._~+/=-]{8,}
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?-----END\ [A-Z ]*PRIVATE\ KEY-----
    | (?<=://)[^/\s:@]+:[^/\s@]+(?=@)                      # a user and a password in a URL
    """,
    re.VERBOSE | re.DOTALL,
)


class Scrubber:
    """Replaces secrets in texts: those that were named, those in the environment, and what looks like one.

    Args:
      secrets: Texts that must not get out, whatever they look like.
      env: Where to look for more: values of variables that are named as keys, tokens or passwords are.
    """

    def __init__(self, secrets: Iterable[str] = (), env: Mapping[str, str] | None = None) -> None:
        known = {secret for secret in secrets if secret}
        for name, value in (os.environ if env is None else env).items():
            if len(value) >= _LEAST_CHARS and _SECRET_NAMES.search(name):
                known.add(value)
        # Arguments of calls are JSON inside of texts: there a quotation mark, or the end of a line, is written otherwise.
        known |= {
            json.dumps(secret, ensure_ascii=plain)[1:-1]
            for secret in known
            for plain in (True, False)
        }
        # The longest first: one secret may be the beginning of another.
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None
        self._long = [secret for secret in longest_first if len(secret) > _LEAST_CHARS]

    def text(self, text: str) -> str:
        """The text without its secrets, and without a piece of one that was cut where the text was."""
        if self._known is not None:
            text = self._known.sub(SECRET, text)
        text = _PATTERNS.sub(SECRET, text)
        return self._without_pieces(text) if self._long else text

    def _without_pieces(self, text: str) -> str:
        pieces = [
            (start, cut.start())
            for cut in _CUT_BEFORE.finditer(text)
            if (start := self._begun(text, cut.start())) is not None
        ]
        pieces += [
            (cut.end(), end)
            for cut in _CUT_AFTER.finditer(text)
            if (end := self._ended(text, cut.end())) is not None
        ]
        for start, end in sorted(pieces, reverse=True):
            text = text[:start] + SECRET + text[end:]
        return text

    def _begun(self, text: str, cut: int) -> int | None:
        """Where a secret begins of which only the beginning stands before a cut."""
        for secret in self._long:
            at = max(0, cut - len(secret) + 1)
            while (at := text.find(secret[:_LEAST_CHARS], at, cut)) >= 0:
                if secret.startswith(text[at:cut]):
                    return at
                at += 1
        return None

    def _ended(self, text: str, cut: int) -> int | None:
        """Where a secret ends of which only the end stands behind a cut."""
        for secret in self._long:
            at = cut + len(secret) - 1
            while (at := text.rfind(secret[-_LEAST_CHARS:], cut, at)) >= 0:
                end = at + _LEAST_CHARS
                if secret.endswith(text[cut:end]):
                    return end
                at += _LEAST_CHARS - 1
        return None

    def value(self, value: Any) -> Any:
        """The same for every text in a JSON value, names of members included."""
        match value:
            case str():
                return self.text(value)
            case list() | tuple():
                return [self.value(item) for item in value]
            case Mapping():
                return {self.text(str(name)): self.value(item) for name, item in value.items()}
        return value
