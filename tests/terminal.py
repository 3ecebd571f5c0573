"""Commands on a pseudo-terminal, and the text that the terminal shows."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Sequence

CONTROL = re.compile(r'\x1b\[[?\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+')


def run_on_terminal(command: Sequence[str], columns: int = 300, rows: int = 50) -> tuple[int, str]:
    """Run a command on a pseudo-terminal, and return its exit status and its output."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
    environment = {**os.environ, 'TERM': 'xterm-256color'}
    # rich prefers these variables to the terminal
    for name in ('COLUMNS', 'LINES', 'NO_COLOR', 'FORCE_COLOR', 'TTY_COMPATIBLE'):
        environment.pop(name, None)
    process = subprocess.Popen(
        command, stdin=secondary, stdout=secondary, stderr=secondary, env=environment
    )
    os.close(secondary)
    output = b''
    while True:
        try:
            part = os.read(primary, 65536)
        # Linux raises it when the last process has closed the terminal
        except OSError:
            break
        if not part:
            break
        output += part
    os.close(primary)
    return process.wait(), output.decode()


def screen(output: str) -> list[str]:
    """Return the lines that a terminal shows after some output, without colors."""
    lines, row, column = [''], 0, 0
    for part in CONTROL.findall(output):
        if part == '\r':
            column = 0
        elif part == '\n':
            row += 1
            if row == len(lines):
                lines.append('')
        elif part.startswith('\x1b'):
            count = int(re.sub(r'\D', '', part) or 1)
            if part.endswith('A'):
                row -= count
            elif part.endswith('K'):
                lines[row] = ''
        else:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + part + line[column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines]
