"""One way for all arms to train: a content key a seed, resumable work, an adapter published whole, and its rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from assets.step import Step
from resources.model_store import ModelStoreResource
from rlaif_dagster.spec.base import Spec
from rlaif_dagster.training.trained import Check, Trained

if TYPE_CHECKING:
    from rlaif_dagster.training.store import StoredModel

# The blocking checks of each arm, by the names that its training gives its guards.
GUARDS = {
    "sft": ("finite_loss",),
    "reward": ("finite_loss", "reward_accuracy", "reward_length", "reward_calibration"),
    "dpo": ("finite_loss",),
    "ppo": ("finite_loss", "kl", "collapse"),
}


@dataclass(frozen=True)
class Run:
    """One seed's training: where checkpoints live and where the adapter goes."""

    seed: int
    work: Path
    target: Path


def train_arm(
    step: Step,
    store: ModelStoreResource,
    arm: str,
    recipe: Spec,
    seeds: Sequence[int],
    reads: list[Any],
    train: Callable[[Run], Trained],
) -> dg.MaterializeResult:
    """Train every seed that is not stored yet, write the rows of `models` and `training_metrics`.

    `reads` are the content versions that the training depends on beside base model, recipe and seed; the seeds of a recipe
    are trained one by one, so a seed added later leaves the others alone.
    """
    from rlaif_dagster.training.card import write_card
    from rlaif_dagster.training.metrics import final

    models = store.open()
    stored: list[StoredModel] = []
    for seed in seeds:
        meaning = {key: value for key, value in recipe.meaning().items() if key not in ("seed", "seeds")}
        key = step.key(step.model_spec.meaning(), meaning, reads, seed)
        work = step.home.work / step.asset / key

        def fill(target: Path, seed: int = seed, work: Path = work) -> Trained:
            trained = train(Run(seed, work, target))
            write_card(
                target, title=f"{step.cell.model} aligned with {arm} under {step.cell.constitution}",
                base=step.base_reference, arm=arm, recipe=recipe.meaning() | {"seed": seed},
                lineage=[(v.asset, v.partition or "", v.version) for v in step.upstream], metrics=final(trained.metrics),
                license=step.model_spec.license,
            )  # fmt: skip
            return trained

        model = models.get(key) or models.publish(key, fill)
        if all(check.passed for check in model.trained.checks):  # else it may hold what explains the failure
            shutil.rmtree(work, ignore_errors=True)
        stored.append(model)
    checks = [check for model in stored for check in model.trained.checks]
    return step.finish(
        {"models": _model_rows(step, arm, recipe, seeds, stored), "training_metrics": _metric_rows(arm, seeds, stored)},
        part=arm,
        checks=over_seeds(arm, checks),
        version=step.combined(model.digest for model in stored),
    )


def over_seeds(arm: str, checks: Sequence[Check]) -> list[Check]:
    """One check a guard of the arm, passed where it passed for every seed. A guard that a training never came to, since
    another stopped it, has not failed. Raises KeyError for a guard that GUARDS does not list."""
    found: dict[str, list[Check]] = {name: [] for name in GUARDS[arm]}
    for check in checks:
        found[check.name].append(check)
    return [_all_of(name, of_seeds) for name, of_seeds in found.items()]


def _all_of(name: str, of_seeds: Sequence[Check]) -> Check:
    failed = [check for check in of_seeds if not check.passed]
    return Check(name, not failed, "; ".join(check.message for check in failed or of_seeds) or "not reached")


def _model_rows(
    step: Step, arm: str, recipe: Spec, seeds: Sequence[int], stored: Sequence[StoredModel]
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": arm, "seed": seed, "path": model.path.name, "digest": model.digest,
            "start": getattr(recipe, "start", "base"), "recipe_hash": recipe.data_version(),
            "tokens": model.trained.tokens, "seconds": model.trained.seconds,
            "peak_memory_bytes": model.trained.peak_memory_bytes,
        }
        for seed, model in zip(seeds, stored, strict=True)
    )  # fmt: skip


def _metric_rows(arm: str, seeds: Sequence[int], stored: Sequence[StoredModel]) -> pd.DataFrame:
    frames = [m.trained.metrics.assign(arm=arm, seed=seed) for seed, m in zip(seeds, stored, strict=True)]
    return pd.concat(frames, ignore_index=True)[["arm", "seed", "step", "name", "value"]]
