"""A process of a training in several: `torchrun -m rlaif_dagster.training.process FOLDER` (see `training.processes`)."""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path

import torch

from rlaif_dagster.errors import UserError
from rlaif_dagster.judging.ledger import act_for
from rlaif_dagster.lifeline import end_with_parent
from rlaif_dagster.training.processes import CALL, OUTCOME, Followed, rank
from rlaif_dagster.training.trained import Trained

SECONDS_FOR_THE_FIRST = 10.0


def main(folder: Path) -> None:
    """Train; the first process leaves what came of it in the folder. Standard input is a lifeline, and what a judge is paid is
    paid by who started the training."""
    end_with_parent()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    outcome: Trained | UserError
    try:
        payer, call = pickle.loads((folder / CALL).read_bytes())
        act_for(payer)
        outcome = call()
    except Followed:
        return
    except UserError as error:  # the same one in every process: it is about the recipe or the data
        outcome = error
    if rank() == 0:
        (folder / OUTCOME).write_bytes(pickle.dumps(outcome))
    if isinstance(outcome, UserError):
        if rank() > 0:
            time.sleep(SECONDS_FOR_THE_FIRST)  # which mostly has the same to tell
        sys.exit(f"UserError: {outcome}")  # for which the launcher ends the others: they may be waiting for this one
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
