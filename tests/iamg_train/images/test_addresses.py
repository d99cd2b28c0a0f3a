import socket

import pytest

from iamg_train.images.addresses import ForbiddenAddress, checked_socket, is_public

PUBLIC = ("8.8.8.8", "104.16.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1")
NOT_PUBLIC = {
    "loopback": ("127.0.0.1", "127.8.9.10", "::1"),
    "private": ("10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1", "fec0::1"),
    "carrier grade": ("100.64.0.1", "100.127.255.254"),
    "link-local": ("169.254.169.254", "fe80::1", "fe80::1%eth0"),
    "multicast": ("224.0.0.1", "239.1.2.3", "ff02::1", "ff0e::1"),
    "reserved": ("0.0.0.0", "0.1.2.3", "240.0.0.1", "255.255.255.255", "::", "::7f00:1", "100::1"),
    "for documentation and tests": ("192.0.2.1", "198.51.100.1", "203.0.113.9", "198.18.0.1", "2001:db8::1"),
    "IPv4 in IPv6": ("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::10.0.0.1", "2002:7f00:1::", "2001::1"),
}


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_open_internet_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize("address", [address for group in NOT_PUBLIC.values() for address in group])
def test_addresses_of_a_machine_its_network_or_a_group_are_not(address):
    assert not is_public(address)


def test_a_socket_is_made_for_an_allowed_address_only():
    make = checked_socket(lambda address: address == "127.0.0.1")
    with make((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))) as made:
        assert made.family == socket.AF_INET
    with pytest.raises(ForbiddenAddress, match="not a public address"):
        make((socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("::1", 80, 0, 0)))
