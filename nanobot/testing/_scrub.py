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

    def text(self, text: str) -> str:
        """The text without its secrets."""
        if self._known is not None:
            text = self._known.sub(SECRET, text)
        return _PATTERNS.sub(SECRET, text)

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
