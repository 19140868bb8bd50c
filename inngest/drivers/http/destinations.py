"""Where a client may connect: a policy, asked of each address that is about to be dialled, after resolving.

What holds:

- Addresses of metadata services and of the link are never dialled, whatever is configured and whoever asks.
- What is denied is not dialled; of the rest, what is allowed is.
- Else private addresses are dialled only where the policy says so, and public ones always.

A name counts as configured, but it is the address that is looked at: a public name that points into a private
network is private.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NEVER = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # the link, and most metadata services
            "fe80::/10",
            "fd00:ec2::254/128",  # metadata of AWS
            "fd20:ce::254/128",  # of Google
            "100.100.100.200/32",  # of Alibaba
            "192.0.0.192/32",  # of Oracle
            "168.63.129.16/32",  # of Azure's hosts
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


class InvalidRule(ValueError):
    """What is neither a network nor the name of a host."""


@dataclass(frozen=True)
class Rules:
    """Networks, and names of hosts in lower case; one with a dot in front stands for all below it."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()

    @staticmethod
    def parse(texts: Iterable[str]) -> Rules:
        """Of ``10.0.0.0/8``, ``fd00::/8``, ``192.168.1.7``, ``app.internal`` or ``.internal``. Raises
        InvalidRule.
        """
        networks: list[Network] = []
        hosts: set[str] = set()
        for text in texts:
            try:
                networks.append(ip_network(text, strict=False))
                continue
            except ValueError:
                pass
            name = text.strip().lower().rstrip(".")
            if not name or any(char in name for char in "/:@*[] "):
                raise InvalidRule(f"{text!r} is neither a network such as 10.0.0.0/8 nor the name of a host")
            hosts.add(name)
        return Rules(tuple(networks), frozenset(hosts))

    def name(self, host: str, address: Address) -> bool:
        """Whether one of them names this host or its address."""
        host = host.lower().rstrip(".")
        if host in self.hosts or any(each[0] == "." and host.endswith(each) for each in self.hosts):
            return True
        return any(address in network for network in self.networks if network.version == address.version)


@dataclass(frozen=True)
class Destinations:
    """The policy of one client.

    Attributes:
        private: whether private addresses are dialled that no rule names.
        allow: dialled, private or not.
        deny: never dialled.
    """

    private: bool = True
    allow: Rules = Rules()
    deny: Rules = Rules()

    def refusal(self, host: str, address: str) -> str:
        """Why a host is not dialled at this address; empty if it is."""
        found = _plain(ip_address(address.partition("%")[0]))
        if any(found in network for network in _NEVER if network.version == found.version):
            return "addresses of the link and of metadata services are never called"
        if found.is_multicast:
            return "it is an address of many"
        if self.deny.name(host, found):
            return "execution.http.deny names it"
        if self.private or found.is_global or self.allow.name(host, found):
            return ""
        return "it is a private address, and execution.http.allow does not name it"


def _plain(address: Address) -> Address:
    """The IPv4 address that stands in one of IPv6, if one does."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
