"""Runs a full-screen program in a terminal of its own: it must draw, follow a new size, and leave the terminal as it was.

    python3 top.py quit|signal WORD PROGRAM [ARGUMENT ...]

WORD is what the screen must show. `quit` ends the program with the key q, `signal` with SIGTERM.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

how, word, command = sys.argv[1], sys.argv[2].encode(), sys.argv[3:]


def size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_until(fd, what, done):
    seen, deadline = b"", time.monotonic() + 20
    while not done(seen):
        left = deadline - time.monotonic()
        if left <= 0:
            sys.exit(f"{what}: not within 20 s; the screen: {seen[-2000:]!r}")
        if select.select([fd], [], [], left)[0]:
            try:
                seen += os.read(fd, 65536)
            except OSError:
                break
    return seen


main, other = pty.openpty()
size(main, 40, 160)
before = termios.tcgetattr(other)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(other, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(other, fd)
    os.execvp(command[0], command)
read_until(main, "the first picture", lambda seen: b"\x1b[?1049h" in seen and word in seen)
if termios.tcgetattr(other)[3] & termios.ECHO:
    sys.exit("keys are echoed onto the screen")
# Smaller: everything is drawn anew.
size(main, 12, 60)
os.kill(child, signal.SIGWINCH)
read_until(main, "the picture at another size", lambda seen: word in seen)
if how == "quit":
    os.write(main, b"q")
else:
    os.kill(child, signal.SIGTERM)
end = read_until(main, "the end", lambda seen: b"\x1b[?1049l" in seen)
_, status = os.waitpid(child, 0)
if os.waitstatus_to_exitcode(status) != 0:
    sys.exit(f"ended with {status}: {end!r}")
if termios.tcgetattr(other) != before:
    sys.exit("the terminal is not as it was")
