import socket
import subprocess
import sys

import pytest

from mmcrosscl.network import interface_to, is_this_machine, port_is_free
from tests.hosts import two_hosts


def test_addresses_of_this_machine_are_recognized():
    assert is_this_machine('127.0.0.1') and is_this_machine('localhost')
    # reserved for documentation
    assert not is_this_machine('203.0.113.7')
    with pytest.raises(OSError):
        is_this_machine('no.such.host.invalid')


def test_a_port_is_free_unless_a_server_listens():
    with socket.socket() as server:
        server.bind(('', 0))
        server.listen()
        port = server.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)


def test_the_loopback_interface_is_never_chosen():
    assert interface_to('127.0.0.1') != 'lo'


@pytest.mark.hosts
def test_the_interface_leads_to_the_host_whose_name_is_a_loopback_address(tmp_path):
    with two_hosts(tmp_path) as hosts:
        for host in hosts:
            for target in (hosts[0].address, '127.0.1.1', host.name):
                code = f'from mmcrosscl.network import *; print(interface_to("{target}"))'
                words = host.command(sys.executable, '-c', code)
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                assert done.stdout.strip() == f'{host.namespace}0'
