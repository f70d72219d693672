"""A step in a process of its own, so that several can be made side by side: its errand, its end, and what it says meanwhile.

The process is the head of a session of its own: a Ctrl-C at the terminal reaches the command line alone, which passes it on,
once. What the process writes, its progress bars too, is read here and becomes events, for two that write on one screen would
overwrite each other. Where the command line writes on a terminal, so does the process, on a pseudo terminal of its own.
"""

from __future__ import annotations

import codecs
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from rlaif_dagster.lineage.runs import Failure, process_name
from rlaif_dagster.planning import Event, OnEvent, Step
from rlaif_dagster.warehouse.store import Cell

SECONDS_TO_STOP = 30.0  # after an interrupt, to close the run of Dagster
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
STDERR = 2
NAME_COLUMNS = 60


@dataclass(frozen=True)
class Errand:
    """What is to be made: a step of a plan over these models and constitutions. `budget_usd` is what judges may be paid for
    it, booked on `payer`; `began` is when the command line did; `remaining` are the steps that may still run."""

    asset: str
    cell: Cell
    models: tuple[str, ...]
    constitutions: tuple[str, ...]
    select: tuple[str, ...]
    budget_usd: float | None
    began: datetime
    payer: str
    remaining: int


@dataclass(frozen=True)
class Ending:
    """How it ended. Neither made, failed nor interrupted: somebody else made it, or it is to be tried again. `wrong` is the
    line about a file of the user's that cannot be read: it ends the whole command."""

    made: bool = False
    failure: Failure | None = None
    interrupted: bool = False
    wrong: str | None = None


@dataclass
class Apart:
    """One such process, from its start to its end."""

    step: Step
    pool: str | None
    on_event: OnEvent
    process: subprocess.Popen[bytes]
    name: str  # as the runs of Dagster that it carries are tagged
    connection: Connection
    screen: int  # what it writes, to be read here
    ending: Ending | None = None
    _text: str = ""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )

    @classmethod
    def start(cls, command: Sequence[str], errand: Errand, step: Step, pool: str | None, on_event: OnEvent) -> Apart:
        """`command` is given the id of this process and the number of a file descriptor, from which it reads its errand."""
        here, there = Pipe()
        screen, written = _terminal() if os.isatty(STDERR) else os.pipe()
        with there:
            process = subprocess.Popen(
                [*command, str(os.getpid()), str(there.fileno())], pass_fds=(there.fileno(),), stdin=subprocess.DEVNULL,
                stdout=written, stderr=written, start_new_session=True,
            )  # fmt: skip
        os.close(written)
        here.send(errand)
        return cls(step, pool, on_event, process, process_name(process.pid), here, screen)

    @property
    def sources(self) -> list[Connection | int]:
        """What has something to read when the process says something, or ends."""
        return [self.connection] + ([self.screen] if self.screen >= 0 else [])

    def read(self, source: Connection | int) -> None:
        """Take in what a source has to say; `ending` is there when that was the last."""
        if source is self.connection:
            self._listen()
        else:
            self._look()

    def _listen(self) -> None:
        try:
            said = self.connection.recv()
        except (EOFError, ConnectionResetError):
            status = self.process.wait()
            said = Ending(failure=Failure(f"its process ended with status {status} before the step did"))
        if isinstance(said, Event):
            self.on_event(said)
            return
        self.stop()
        while self.screen >= 0 and _has_more(self.screen):  # its last words
            self._look()
        if self.screen >= 0:  # a process that it started has it still
            os.close(self.screen)
            self.screen = -1
        self.connection.close()
        self.ending = said

    def _look(self) -> None:
        try:
            data = os.read(self.screen, 65536)
        except OSError:  # how a pseudo terminal says that nobody writes on it any more
            data = b""
        self._text += CONTROL.sub("", self._decoder.decode(data)).replace("\r\n", "\n")
        if not data:
            os.close(self.screen)
            self.screen = -1
            self._text += "\n" if self._text.strip() else ""
        *lines, self._text = self._text.split("\n")
        for line in lines:
            if text := line.rpartition("\r")[2].strip():
                self.on_event(Event("told", self.step, text))
        if bar := next((part.strip() for part in reversed(self._text.split("\r")) if part.strip()), ""):
            self.on_event(Event("progress", self.step, bar))
            self._text = self._text[self._text.rfind("\r") :] if "\r" in self._text else self._text

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def stop(self, deadline: float | None = None) -> None:
        """Wait for its end; it is killed when that is not there by the deadline (of the monotonic clock)."""
        if deadline is None:
            deadline = time.monotonic() + SECONDS_TO_STOP
        while self.process.poll() is None and time.monotonic() < deadline:
            if self.screen >= 0 and _has_more(self.screen):  # it would wait for ever for somebody to read
                self._look()
            time.sleep(0.02)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def _terminal() -> tuple[int, int]:
    """A pseudo terminal's two ends, as wide as leaves room for a step's name before a bar."""
    screen, written = pty.openpty()
    termios.tcsetwinsize(screen, (24, max(shutil.get_terminal_size().columns - NAME_COLUMNS, 20)))
    return screen, written


def _has_more(source: int) -> bool:
    return bool(select.select([source], [], [], 0)[0])
