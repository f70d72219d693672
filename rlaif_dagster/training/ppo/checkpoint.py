"""What a training needs to go on after a kill: one file, replaced by a rename, so it is always a whole one.

Tensors as safetensors, everything else as JSON in the file's header; nothing is pickled. Random states are missing because there
are none (see draws.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlaif_dagster import atomic
from rlaif_dagster.training.metrics import Row
from rlaif_dagster.training.ppo.update import Experience

FILE = "ppo.safetensors"
BATCH = "not_finite.safetensors"  # the batch whose loss or gradient was not finite


@dataclass
class Progress:
    """Where a training stands after `update` updates.

    `scale` is the mean and deviation of the reward, known from the first rollout on, `part_scales` those of its parts where it
    is a sum; `good_update` and `good` the last policy whose
    KL was seen to be under the bound; `best_*` the best held-out evaluation under it; `stopped` the guard that ended the
    training and its sentence.
    """

    kl_coefficient: float
    update: int = 0
    scale: tuple[float, float] | None = None
    part_scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    timings: list[dict[str, float]] = field(default_factory=list)
    evaluations: dict[str, dict[str, float]] = field(default_factory=dict)
    best_update: int | None = None
    good_update: int = 0
    largest_kl: float = 0.0
    stopped: tuple[str, str] | None = None
    good: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)


def save(
    folder: Path, identity: str, progress: Progress, policy: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Write the checkpoint of the training named `identity` (a hash of what it was asked)."""
    content = {name: value for name, value in vars(progress).items() if name not in ("good", "best")}
    tensors = {f"policy/{name}": value for name, value in policy.items()}
    for part in ("good", "best"):
        tensors |= {f"{part}/{name}": value for name, value in getattr(progress, part).items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": torch.as_tensor(value).cpu() for name, value in state.items()}
    # good, best and policy may be the same tensors; safetensors wants each to own its memory
    tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
    metadata = {"identity": identity, "progress": json.dumps(content)}
    atomic.write_file(folder / FILE, lambda path: save_file(tensors, path, metadata=metadata))


def save_batch(folder: Path, experience: Experience, scores: Tensor) -> None:
    """Keep the batch that ended a training with its raw scores, for whoever looks into it; what was not computed any more is
    zero."""
    names = ("tokens", "mask", "logprobs", "ended")
    tensors = {name: getattr(experience.rollout, name) for name in names}
    tensors |= {name: getattr(experience, name) for name in ("values", "advantages", "returns")} | {"scores": scores}
    metadata = {"prompts": json.dumps(experience.rollout.prompts), "answers": json.dumps(experience.rollout.texts)}
    copies = {name: value.cpu().contiguous().clone() for name, value in tensors.items()}
    atomic.write_file(folder / BATCH, lambda path: save_file(copies, path, metadata=metadata))


def load(folder: Path, identity: str, optimizer: torch.optim.Optimizer) -> tuple[Progress, dict[str, Tensor]] | None:
    """The progress and the policy to go on from, with the optimizer's state put back; None where there is no checkpoint of
    this very training."""
    path = folder / FILE
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        if metadata["identity"] != identity:
            return None
        parts: dict[str, dict[str, Tensor]] = {"policy": {}, "good": {}, "best": {}, "optimizer": {}}
        for key in file.keys():  # noqa: SIM118 - not a mapping
            part, _, name = key.partition("/")
            parts[part][name] = file.get_tensor(key)
    content = json.loads(metadata["progress"])
    content["rows"] = [(step, name, value) for step, name, value in content["rows"]]
    for name in ("scale", "stopped"):
        content[name] = tuple(content[name]) if content[name] is not None else None
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimizer"].items():
        number, _, name = key.partition("/")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**content, good=parts["good"], best=parts["best"]), parts["policy"]
