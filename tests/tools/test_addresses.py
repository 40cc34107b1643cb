"""Which addresses are public, in every spelling."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.tools._addresses import AddressPolicy

PRIVATE = """
0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1
192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:a00:1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1
100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 5f00::1 fc00::1
fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 2606:4700::1%1
localhost 2130706433 0x7f.1 0177.0.0.1 127.1 1.2.3 1.2.3.4.5 example.org
"""

PUBLIC = """
1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 192.0.1.1 198.20.0.1 223.255.255.255
2606:4700::1111 2001:4860:4860::8888 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::808:808
"""


@pytest.mark.parametrize("address", [*PRIVATE.split(), ""])
def test_refuses(address: str) -> None:
    assert not AddressPolicy().permits(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_permits(address: str) -> None:
    assert AddressPolicy().permits(address)


def test_a_network_of_the_owner_is_permitted_and_no_other() -> None:
    policy = AddressPolicy(["10.1.0.0/16", "192.168.1.7", "fd00::/8"])
    for address in ("10.1.2.3", "192.168.1.7", "fd12::1", "::ffff:10.1.2.3", "8.8.8.8"):
        assert policy.permits(address)
    for address in ("10.2.0.1", "192.168.1.8", "fc00::1", "fd00::1%eth0", "127.0.0.1"):
        assert not policy.permits(address)
    with pytest.raises(ValueError, match="localhost"):
        AddressPolicy(["localhost"])


@given(st.ip_addresses(v=4))
def test_whatever_python_calls_not_global_is_refused(address: IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        assert not AddressPolicy().permits(str(address))


@given(st.ip_addresses(v=6))
def test_of_version_6_too(address: IPv6Address) -> None:
    if not address.is_global or address.is_multicast:
        assert not AddressPolicy().permits(str(address))


@given(st.ip_addresses(v=4))
def test_an_address_in_another_is_judged_as_itself(address: IPv4Address) -> None:
    policy = AddressPolicy()
    for prefix in ("::ffff:", "64:ff9b::"):
        assert policy.permits(f"{prefix}{address}") == policy.permits(str(address))
