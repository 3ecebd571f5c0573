"""Addresses and network interfaces of this machine."""

import fcntl
import ipaddress
import socket
import struct

# an address that no machine has; see RFC 5737
OUTSIDE = '198.51.100.1'
# request for the IPv4 address of an interface; see netdevice(7)
SIOCGIFADDR = 0x8915


def is_this_machine(host: str) -> bool:
    """Return whether a host name or an address belongs to this machine.

    Raises:
        OSError: If the name cannot be resolved.
    """
    for family, kind, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
        with socket.socket(family, kind) as probe:
            try:
                probe.bind(address)
                return True
            except OSError:
                continue
    return False


def port_is_free(port: int) -> bool:
    """Return whether a server of this machine can listen on a TCP port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', port))
            return True
        except OSError:
            return False


def interface_to(host: str) -> str | None:
    """Return the name of the IPv4 interface through which other machines reach this one.

    It is the interface of the route to a host. If the host is this machine under a loopback
    address, it is the interface of the default route or, without such a route, the first other one.

    Args:
        host (str): Name or address of a machine of the job.

    Returns:
        str | None: The name, or None if there is no such interface.
    """
    interfaces = {name: _ipv4(name) for _, name in socket.if_nameindex()}
    reachable = {
        name: address
        for name, address in interfaces.items()
        if address is not None and not ipaddress.ip_address(address).is_loopback
    }
    for target in (host, OUTSIDE):
        source = _source_address(target)
        for name, address in reachable.items():
            if address == source:
                return name
    return next(iter(reachable), None)


def _source_address(host: str) -> str | None:
    """Return the own address of packets to a host, without sending a packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return None
        return probe.getsockname()[0]


def _ipv4(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack('256s', interface.encode()[:15])
        try:
            answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
        # the interface has no IPv4 address
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])
