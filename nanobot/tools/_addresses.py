"""Which addresses of the Internet a stranger's URL may lead to: those that belong to everybody.

Decided on the address that is connected to, never on how a URL spells it. So `http://2130706433/`, `http://0x7f.1/` and
a name that resolves to 127.0.0.1 are one case.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

__all__ = ["AddressPolicy"]

_Address: TypeAlias = IPv4Address | IPv6Address
_Network: TypeAlias = IPv4Network | IPv6Network

# Source: IANA IPv4 Special-Purpose Address Registry; written out, for Python's own table differs from one version to
# the next, and `is_global` calls multicast global.
_NOT_GLOBAL_4: Final = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
            *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)

# Source: IANA IPv6 Address Space: only 2000::/3 is given out for global use. Of that, 2001::/23 holds Teredo and other
# tunnels, 2002::/16 is 6to4 (an IPv4 address behind a relay), the others are for documentation.
_GLOBAL_6: Final = IPv6Network("2000::/3")
_NOT_GLOBAL_6: Final = tuple(
    map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)

_EMBEDS_4: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""IPv4-mapped, and NAT64 (RFC 6052), by which networks without IPv4 reach it: the address is the IPv4 one in it."""


class AddressPolicy:
    """Tells global addresses from all others.

    Args:
      allowed: Networks that may be reached although they are not global, such as `10.1.0.0/16`.

    Raises:
      ValueError: One of them is no network.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed: tuple[_Network, ...] = tuple(
            ip_network(network, strict=False) for network in allowed
        )

    def permits(self, address: str) -> bool:
        """Whether an address, as the resolver writes it, may be connected to. One with a zone never may."""
        try:
            found: _Address = ip_address(address)
        except ValueError:
            return False
        if isinstance(found, IPv6Address):
            if found.scope_id is not None:
                return False
            embedded = _embedded(found)
            if embedded is not None:
                return self._is_allowed(found) or self.permits(str(embedded))
            is_global = found in _GLOBAL_6 and not any(found in each for each in _NOT_GLOBAL_6)
        else:
            is_global = not any(found in each for each in _NOT_GLOBAL_4)
        return is_global or self._is_allowed(found)

    def _is_allowed(self, address: _Address) -> bool:
        return any(address in network for network in self._allowed)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if any(address in network for network in _EMBEDS_4):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
