"""The reward model's training: Bradley-Terry on preference pairs.

    loss = -log sigmoid( r(x, y+) - r(x, y-) ) + center_rewards * (r(x, y+) + r(x, y-))^2

The second term keeps rewards around zero (arXiv 2312.09244), which a loss on differences leaves open. A judge that simply
prefers long answers, or short ones, teaches a reward model the same. So the held-out accuracy stands beside that of length
alone, the better of "the longer wins" and "the shorter wins", and a recipe says by how much it must be beaten. Margins are
checked as well: PPO is paid by them, not by who wins (calibration.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from trl import RewardConfig, RewardTrainer
from trl.trainer.utils import disable_dropout_in_model

from rlaif_dagster.errors import UserError
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Reward
from rlaif_dagster.training import adapters, memory, metrics
from rlaif_dagster.training.calibration import calibration
from rlaif_dagster.training.examples import TokenPair, counts, preferences
from rlaif_dagster.training.loop import Guarded, Stopwatch, arguments, fit
from rlaif_dagster.training.order import training_order
from rlaif_dagster.training.quiet import quiet
from rlaif_dagster.training.reward_model import RewardModel, classifier, reward_parts, rewards, scoring_tokenizer
from rlaif_dagster.training.trained import Check, Trained

__all__ = ["RewardModel", "reward_parts", "train_reward"]


class _Trainer(Guarded, RewardTrainer):
    pass


def train_reward(
    lm: LanguageModel, pairs: pd.DataFrame, recipe: Reward, *, seed: int, work: Path, target: Path
) -> Trained:
    """Train a LoRA and a head on the pairs of split `train` and write both to `target`; called again with the same `work`,
    it goes on where it was. `lm` is altered: give it a fresh base.

    Metrics: TRL's, a step (loss, accuracy, margin, min_reward, mean_reward, max_reward); at the end, on the held-out
    pairs, eval_accuracy, eval_margin, eval_mean_reward, eval_longer_accuracy, eval_length_accuracy and those of `calibration`. The
    checks `reward_accuracy`, `reward_length` and `reward_calibration` hold them against the recipe. Raises UserError when there
    is nothing to train on or nothing to check with.
    """
    watch = Stopwatch(work)
    training, held_out = (preferences(lm, pairs, split, recipe) for split in ("train", "held_out"))
    if not held_out.items:
        raise UserError(
            "no held-out pairs to check the reward model on; raise held_out_share in data/recipes/judging.yaml, or "
            "max_length in data/recipes/reward.yaml"
        )
    order = training_order([pair.length for pair in training.items], recipe.epochs, recipe.batch_size, seed)
    tokenizer = scoring_tokenizer(lm)
    args = arguments(
        RewardConfig, recipe, lm, seed=seed, work=work,
        center_rewards_coefficient=recipe.center_rewards, disable_dropout=False,
    )  # fmt: skip
    head_dtype = torch.float32 if args.bf16 or args.fp16 else lm.model.dtype  # autocast takes a float32 head
    model = classifier(lm, tokenizer.pad_token_id, seed=seed, dtype=head_dtype)
    disable_dropout_in_model(model)  # the base is frozen: the recipe's LoRA dropout is the only noise
    with quiet():
        trainer = _Trainer(
            model=model,
            args=args,
            train_dataset=_dataset(training.items),
            processing_class=tokenizer,
            peft_config=adapters.lora_config(lm, recipe.lora, task="SEQ_CLS"),
        )
    adapters.detach_base(trainer.model)
    fitted = fit(trainer, "reward", order, watch)
    adapters.save(trainer.model, target, lm)
    rows = metrics.at(0, counts(training, held_out)) + fitted.rows
    checks = [fitted.check]
    if fitted.check.passed:
        values = held_out_metrics(*_scored(trainer.model.get_base_model(), held_out.items), _longer_by(held_out.items))
        rows += metrics.at(fitted.step, {f"eval_{name}": value for name, value in values.items()})
        checks += quality_checks(values, len(held_out.items), recipe)
    return Trained(
        metrics=metrics.frame(rows),
        tokens=sum(training.items[place].tokens for place in order),
        seconds=watch.seconds(),
        peak_memory_bytes=memory.peak_bytes(),
        checks=tuple(checks),
    )


def held_out_metrics(chosen: np.ndarray, rejected: np.ndarray, longer_by: np.ndarray) -> dict[str, float]:
    """Rewards of n pairs, each [n], and by how many characters the chosen answer is longer: the share of pairs ranked
    right, the mean margin, the mean reward, the share that "prefer the longer answer" ranks right (a tie is half), the same of
    the better rule by length, and `calibration` of the margins."""
    longer = float(((longer_by > 0) + 0.5 * (longer_by == 0)).mean())
    return {
        "accuracy": float((chosen > rejected).mean()),
        "margin": float((chosen - rejected).mean()),
        "mean_reward": float(np.concatenate([chosen, rejected]).mean()),
        "longer_accuracy": longer,
        "length_accuracy": max(longer, 1 - longer),
        **calibration(np.asarray(chosen - rejected, dtype=np.float64)),
    }


def quality_checks(values: dict[str, float], n: int, recipe: Reward) -> list[Check]:
    """Whether `held_out_metrics` of n pairs are good enough to train a policy on: better than chance, than length, and no
    surer of itself than it is right."""
    accuracy, length, error = values["accuracy"], values["length_accuracy"], values["calibration_error"]
    gain = recipe.min_gain_over_length
    return [
        Check(
            "reward_accuracy",
            accuracy >= recipe.min_accuracy,
            f"ranks {accuracy:.1%} of {n} held-out pairs right (at least {recipe.min_accuracy:.1%} asked), mean margin "
            f"{values['margin']:.3g}",
        ),
        Check(
            "reward_length",
            gain <= -1 or accuracy >= length + gain - 1e-9,
            f"ranks {accuracy:.1%} right, length alone {length:.1%} (the longer answer: {values['longer_accuracy']:.1%}); at least "
            f"{length + gain:.1%} asked",
        ),
        Check(
            "reward_calibration",
            error <= recipe.max_calibration_error,
            f"expected calibration error {error:.3f} (at most {recipe.max_calibration_error:g} allowed), Brier score "
            f"{values['brier']:.3f}, log loss {values['log_loss']:.3f} nats",
        ),
    ]


def _scored(model: torch.nn.Module, pairs: list[TokenPair]) -> tuple[np.ndarray, np.ndarray]:
    values = rewards(model, [pair.prompt + answer for pair in pairs for answer in (pair.chosen, pair.rejected)])
    return np.array(values[0::2]), np.array(values[1::2])


def _longer_by(pairs: list[TokenPair]) -> np.ndarray:
    return np.array([pair.longer_by for pair in pairs])


def _dataset(pairs: list[TokenPair]) -> Dataset:
    return Dataset.from_dict(
        {
            "chosen_ids": [pair.prompt + pair.chosen for pair in pairs],
            "rejected_ids": [pair.prompt + pair.rejected for pair in pairs],
        }
    )
