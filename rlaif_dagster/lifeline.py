"""Children that do not outlive the process that started them, however it ends.

The child reads from a pipe whose other end only its parent holds, and never writes to. The kernel closes that end when the parent
is gone, by SIGKILL as well, and the child sees the pipe's end. What is no program of ours is started under one that is:

    python -m rlaif_dagster.lifeline COMMAND ARGUMENT…

which ends the command, and all that it started, when its own standard input ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

SECONDS_TO_STOP = 10.0  # for a command that is asked to end, before it is killed


@contextmanager
def lifeline() -> Iterator[int]:
    """A file descriptor to give a child as its standard input: it ends with the block, or with this process."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(writing)
        os.close(reading)


def end_with_parent() -> None:
    """End this process as soon as its standard input, a lifeline, ends."""
    _when_input_ends(lambda: os._exit(1))


def main(command: Sequence[str]) -> int:
    """Run a command in a session of its own until it ends, or standard input does; its status."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as running:

        def stop() -> None:
            _signal(running, signal.SIGTERM)
            time.sleep(SECONDS_TO_STOP)
            _signal(running, signal.SIGKILL)

        _when_input_ends(stop)
        status = running.wait()
        _signal(running, signal.SIGKILL)  # what it started and left behind
    return status


def _when_input_ends(act: Callable[[], None]) -> None:
    def watch() -> None:
        while os.read(0, 1 << 12):  # not by sys.stdin, whose lock would be held when the interpreter ends
            pass
        act()

    threading.Thread(target=watch, daemon=True).start()


def _signal(running: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the command and all in its session."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
