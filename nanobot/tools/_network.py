"""The way into the web for tools: cheap to make, and its HTTP client is loaded when it is first used."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ._addresses import AddressPolicy
from ._fetched import Fetched, Resolve, resolve

if TYPE_CHECKING:
    from ._guarded_web import GuardedWeb

__all__ = ["Fetched", "Network", "Resolve", "resolve"]


class Network:
    """What one bot reaches the web through. Nothing is shared between two of them, and nothing is kept open.

    Args:
      allowed: Networks that may be reached although they are not global.
      proxy: A proxy to go through, `http://` or `https://`, with name and password if it wants them; what the
        environment says is not looked at. The proxy itself may be anywhere. It resolves names anew, so that what was
        checked here holds for the proxy only if it sees the same; a name that is not known here is left to it.
      user_agent: What we say we are; "" for our name.
      resolve: How names are resolved.
      tls: What certificates are trusted; None is what httpx trusts.
    """

    def __init__(
        self,
        *,
        allowed: Iterable[str] = (),
        proxy: str | None = None,
        user_agent: str = "",
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = AddressPolicy(allowed)
        self._proxy = proxy or None
        self._user_agent = user_agent or "nanobot"
        self._resolve = resolve
        self._tls = tls
        self._web: GuardedWeb | None = None

    async def fetch(self, url: str, *, most_bytes: int, accept: str = "*/*") -> Fetched:
        """Get what is at a stranger's URL, behind up to five redirects. The caller bounds the time.

        Raises:
          ToolError: It cannot be got, or must not be; the text is for the model.

        Cancellation: closes the connection. A look-up of a name goes on in its thread.
        """
        return await self._opened().fetch(url, most_bytes=most_bytes, accept=accept)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        most_bytes: int,
    ) -> Fetched:
        """Ask a service that the owner has configured, wherever it is. Redirects are not followed, for `headers` may
        hold a key. Otherwise as `fetch`.
        """
        return await self._opened().ask(
            method, url, headers=headers, body=body, most_bytes=most_bytes
        )

    def _opened(self) -> GuardedWeb:
        if self._web is None:
            # deferred: an HTTP client costs 60 ms to import, and most runs look nothing up
            from ._guarded_web import GuardedWeb

            self._web = GuardedWeb(
                self._policy, self._proxy, self._user_agent, self._resolve, self._tls
            )
        return self._web
