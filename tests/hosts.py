"""Two hosts on this machine, each with its own network, name, /etc/hosts and disk, for tests."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAMS = ('ip', 'unshare')
# as texts, the address of the second host comes first
ADDRESSES = {'a': '10.77.0.20', 'b': '10.77.0.10'}


class Host:
    """A host that can start processes.

    Args:
        name (str): Host name, which its ``/etc/hosts`` maps to 127.0.1.1, as Debian does.
        namespace (str): Name of its network namespace.
        address (str): Its IPv4 address.
        folder (Path): Folder of the disks. The host sees its own disk as ``folder/disk``; others
            see it as ``folder/NAME``.
    """

    def __init__(self, name: str, namespace: str, address: str, folder: Path) -> None:
        self.name, self.namespace, self.address = name, namespace, address
        self.disk, self.mounted = folder / name, folder / 'disk'

    def command(self, *words: object) -> list[str]:
        """Return the command that runs another command on this host."""
        # `ip netns exec` mounts the files of /etc/netns/NAMESPACE over those of /etc
        enter = ['ip', 'netns', 'exec', self.namespace, 'unshare', '--uts', 'sh', '-c']
        script = f'hostname {self.name}; mount --bind {self.disk} {self.mounted}; exec "$@"'
        return [*enter, script, 'sh', *map(str, words)]


def reason_to_skip() -> str | None:
    """Return why hosts cannot be created here, or None."""
    if not all(map(shutil.which, PROGRAMS)):
        return 'needs network namespaces: apt-get install iproute2 util-linux'
    if os.geteuid() != 0:
        return 'network namespaces are created by root'
    try:
        with TemporaryDirectory() as folder, two_hosts(Path(folder)) as (first, _):
            subprocess.run(first.command('true'), check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        return f'network namespaces cannot be created here: {error.stderr.decode().strip()}'
    return None


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Create two hosts that reach each other only by address, with their disks in a folder."""
    # the names of interfaces are limited to 15 characters
    prefix = f'mm{os.getpid()}'
    hosts = [Host(name, prefix + name, address, folder) for name, address in ADDRESSES.items()]
    links = [f'{host.namespace}0' for host in hosts]
    (folder / 'disk').mkdir(parents=True)
    try:
        for host in hosts:
            host.disk.mkdir()
            settings = Path('/etc/netns', host.namespace)
            settings.mkdir(parents=True)
            (settings / 'hosts').write_text(f'127.0.0.1 localhost\n127.0.1.1 {host.name}\n')
            _ip('netns', 'add', host.namespace)
            _ip('-n', host.namespace, 'link', 'set', 'lo', 'up')
        _ip('link', 'add', links[0], 'type', 'veth', 'peer', 'name', links[1])
        for host, link in zip(hosts, links):
            _ip('link', 'set', link, 'netns', host.namespace)
            _ip('-n', host.namespace, 'addr', 'add', f'{host.address}/24', 'dev', link)
            _ip('-n', host.namespace, 'link', 'set', link, 'up')
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            subprocess.run(['ip', 'netns', 'del', host.namespace], capture_output=True)
            shutil.rmtree(Path('/etc/netns', host.namespace), ignore_errors=True)


def _ip(*words: str) -> None:
    subprocess.run(['ip', *words], check=True, capture_output=True)
