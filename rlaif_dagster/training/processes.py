"""One training in several processes, a GPU each: `RLAIF_PROCESSES=4`.

torch's elastic launcher, which `accelerate launch` calls too, starts the same training function in every process of this
machine. Accelerate, below TRL's trainers, finds the others and averages the gradients; PPO's own loop shares its rows out
(`training.ppo.share`). The recipe's batch is divided among them, so the optimizer makes the same steps as one process makes: the
same result up to the rounding of sums. (LoRA dropout draws other noise in each process.) Only the first process writes, measures
and answers. They end with the process that started them, also where that is killed.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.judging.ledger import payer
from rlaif_dagster.language.backbone import release
from rlaif_dagster.language.base_model import load
from rlaif_dagster.lifeline import lifeline
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.training.process_count import PROCESSES, processes
from rlaif_dagster.training.trained import Trained

CALL, OUTCOME = "call.pickle", "outcome.pickle"  # in a folder of this user's own, for the length of one training
PATIENCE = timedelta(
    days=1
)  # of those that wait for the first process: it may be asking a judge, or scoring every pair


class Followed(Exception):
    """Raised in every process but the first when the training is over: what comes after it is the first one's."""


@dataclass(frozen=True)
class Call:
    """A training: its function, the base model that it is given afresh, and the rest of its arguments."""

    function: Callable[..., Trained]
    name: str
    spec: ModelSpec
    home: Home
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def __call__(self) -> Trained:
        return self.function(load(self.name, self.spec, self.home), *self.arguments, **self.keywords)


def train(call: Call) -> Trained:
    """The training in as many processes as the environment says. Raises what the first of them raised."""
    number = processes()
    if number == 1:
        return call()
    if torch.cuda.is_available() and torch.cuda.device_count() < number:
        raise UserError(
            f"{PROCESSES}: found {number}, but there are {torch.cuda.device_count()} GPUs here: a process has one"
        )
    release()  # a model that evaluation has kept would stand beside the first process's
    with tempfile.TemporaryDirectory(prefix="rlaif-training-") as name:
        folder = Path(name)
        (folder / CALL).write_bytes(pickle.dumps((payer(), call)))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
        command += ["-m", "rlaif_dagster.training.process", name]
        with lifeline() as living:
            done = subprocess.run(command, stdin=living, stderr=subprocess.PIPE, text=True, check=False)
        if not (folder / OUTCOME).exists():
            told = [line for line in done.stderr.splitlines() if "Error" in line] or ["no error was told"]
            raise RuntimeError(f"training in {number} processes ended with status {done.returncode}: {told[0].strip()}")
        outcome = pickle.loads((folder / OUTCOME).read_bytes())
    if isinstance(outcome, BaseException):
        raise outcome
    trained: Trained = outcome
    return trained


def share(batch_size: int) -> int:
    """How many examples of a batch are this process's. Raises UserError where it cannot be divided."""
    number = world_size()
    if batch_size % number:
        raise UserError(
            f"{PROCESSES}: found {number}, which does not divide batch_size {batch_size} of the recipe: set batch_size there to a "
            f"multiple of {number} (a smaller gradient_accumulation leaves the optimizer's steps as they are)"
        )
    return batch_size // number


def own_batches(examples: int, batch_size: int, rank: int, number: int) -> Iterator[list[int]]:
    """Places of the examples that process `rank` of `number` computes, batch by batch of `batch_size` over all of them.

    A short last batch that cannot be divided is computed by every process as a whole: the mean of equal gradients is the
    gradient.
    """
    for start in range(0, examples, batch_size):
        batch = [*range(start, min(start + batch_size, examples))]
        size = len(batch) // number
        yield batch if len(batch) % number else batch[rank * size : (rank + 1) * size]


def world_size() -> int:
    """Processes of this training; 1 outside the launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number among them; 0 is the first."""
    return int(os.environ.get("RANK", "0"))


def meet() -> Any:
    """Accelerate's state of this process, which has met the others. Whoever comes first says how long they wait for one another:
    left to the libraries it is ten minutes on GPUs, after which all are ended."""
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


@contextmanager
def first_process_first() -> Iterator[None]:
    """The block in the first process, and then in the others: they find on the disk what it left there."""
    if world_size() == 1:
        yield
        return
    with meet().main_process_first():
        yield
