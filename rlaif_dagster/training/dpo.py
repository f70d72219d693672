"""Direct preference optimization (arXiv 2305.18290) with a LoRA.

    loss = -log sigmoid( beta [ log pi(y+|x)/ref(y+|x) - log pi(y-|x)/ref(y-|x) ] ) + nll_weight * NLL(y+|x)

The reference is the start: the base model, or the base with the SFT adapter upon it. Its log-probabilities never change,
so they are computed once, before training, with every shared prefix computed once (`language.scoring`), and kept in the
work folder: epochs and resumed calls pay for no reference pass. The NLL term (mean over the chosen tokens, arXiv 2404.19733)
keeps the chosen answers' own likelihood from falling with the rejected ones', which plain DPO permits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import disable_dropout_in_model

from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.language.scoring import score
from rlaif_dagster.spec.recipes import Dpo
from rlaif_dagster.training import adapters, memory, metrics
from rlaif_dagster.training.examples import TokenPair, counts, preferences
from rlaif_dagster.training.loop import Guarded, Stopwatch, arguments, fit
from rlaif_dagster.training.order import training_order
from rlaif_dagster.training.processes import first_process_first
from rlaif_dagster.training.quiet import quiet
from rlaif_dagster.training.trained import Trained
from rlaif_dagster.work import Chunks


class _Trainer(Guarded, DPOTrainer):
    """TRL's trainer on token ids and reference log-probabilities that are already there."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **keywords: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any, **keywords: Any) -> Dataset:
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False) -> Any:
        """The NLL term is a mean over tokens, of which each process may have another number: its part counts by them."""
        if self.args.world_size > 1 and "sft" in self.loss_types:
            own = inputs["completion_mask"].chunk(2)[0].sum()
            part = own * self.args.world_size / self.accelerator.gather(own).sum()
            self.loss_weights = [1.0, self.args.loss_weights[1] * float(part)]
        return super()._compute_loss(model, inputs, return_outputs)


@dataclass(frozen=True)
class LogProbs:
    """Summed log-probabilities (nats) of the answers of n pairs, each [n], and the tokens of the chosen ones."""

    chosen: np.ndarray
    rejected: np.ndarray
    chosen_tokens: np.ndarray


def train_dpo(
    lm: LanguageModel,
    pairs: pd.DataFrame,
    recipe: Dpo,
    *,
    seed: int,
    work: Path,
    target: Path,
    start_adapter: Path | None,
) -> Trained:
    """Train a LoRA on the pairs of split `train`, from `start_adapter` where one is given, and write to `target` one adapter
    on the plain base (the exact concatenation of both). Called again with the same `work`, it goes on where it was. `lm` is
    altered: give it a fresh base.

    Metrics: TRL's, a step (loss, rewards/chosen, rewards/rejected, rewards/margins, rewards/accuracies, logps/chosen,
    logps/rejected, …), and the same with the prefix `eval_` on the held-out pairs at the end, averaged over pairs. Raises
    UserError when there is nothing to train on.
    """
    watch = Stopwatch(work)
    if start_adapter is not None:
        lm = adapters.with_adapter(lm, start_adapter)
    training, held_out = (preferences(lm, pairs, split, recipe) for split in ("train", "held_out"))
    with first_process_first():
        reference = log_probs(lm, training.items + held_out.items, Chunks(work / "reference"), "dpo reference")
    order = training_order([pair.length for pair in training.items], recipe.epochs, recipe.batch_size, seed)
    disable_dropout_in_model(lm.model)  # the base is frozen: the recipe's LoRA dropout is the only noise
    own: dict[str, Any] = {"beta": recipe.beta, "precompute_ref_log_probs": True, "disable_dropout": False}
    if recipe.nll_weight:
        own |= {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, recipe.nll_weight]}
    with quiet():
        trainer = _Trainer(
            model=lm.model,
            args=arguments(DPOConfig, recipe, lm, seed=seed, work=work, **own),
            train_dataset=_dataset(training.items, reference),
            processing_class=lm.tokenizer,
            peft_config=adapters.lora_config(lm, recipe.lora, task="CAUSAL_LM"),
        )
    adapters.detach_base(trainer.model)
    fitted = fit(trainer, "dpo", order, watch)
    if start_adapter is None:
        adapters.save(trainer.model, target, lm)
    else:
        (trained := work / "trained").mkdir(exist_ok=True)
        adapters.save(trainer.model, trained, lm)
        adapters.concatenate(start_adapter, trained, target)
    rows = metrics.at(0, counts(training, held_out)) + fitted.rows
    if held_out.items and fitted.check.passed:
        policy = log_probs(replace(lm, model=trainer.model.get_base_model()), held_out.items)
        start = _from(reference, len(training.items))
        values = preference_metrics(policy, start, beta=recipe.beta, nll_weight=recipe.nll_weight)
        rows += metrics.at(fitted.step, {f"eval_{name}": value for name, value in values.items()})
    return Trained(
        metrics=metrics.frame(rows),
        tokens=sum(training.items[place].tokens for place in order),
        seconds=watch.seconds(),
        peak_memory_bytes=memory.peak_bytes(),
        checks=(fitted.check,),
    )


def log_probs(
    lm: LanguageModel, pairs: Sequence[TokenPair], chunks: Chunks | None = None, progress: str | None = None
) -> LogProbs:
    """Log-probabilities of both answers of each pair under `lm`."""
    requests = [(pair.prompt, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    scored = np.array([answer.logprob for answer in score(lm, requests, chunks=chunks, progress=progress)])
    return LogProbs(scored[0::2], scored[1::2], np.array([len(pair.chosen) for pair in pairs]))


def preference_metrics(policy: LogProbs, reference: LogProbs, *, beta: float, nll_weight: float) -> dict[str, float]:
    """DPO's loss and its parts over pairs, under TRL's names. Implicit rewards are beta log(policy / reference), nats."""
    chosen = beta * (policy.chosen - reference.chosen)
    rejected = beta * (policy.rejected - reference.rejected)
    margins = chosen - rejected
    nll = -policy.chosen.sum() / policy.chosen_tokens.sum()
    return {
        "loss": float(np.logaddexp(0, -margins).mean() + nll_weight * nll),
        "nll": float(nll),
        "rewards/chosen": float(chosen.mean()),
        "rewards/rejected": float(rejected.mean()),
        "rewards/margins": float(margins.mean()),
        "rewards/accuracies": float((margins > 0).mean()),
        "logps/chosen": float(policy.chosen.mean()),
        "logps/rejected": float(policy.rejected.mean()),
    }


def _from(values: LogProbs, first: int) -> LogProbs:
    return LogProbs(values.chosen[first:], values.rejected[first:], values.chosen_tokens[first:])


def _dataset(pairs: list[TokenPair], reference: LogProbs) -> Dataset:
    return Dataset.from_dict(
        {
            "prompt_ids": [pair.prompt for pair in pairs],
            "chosen_ids": [pair.chosen for pair in pairs],
            "rejected_ids": [pair.rejected for pair in pairs],
            "ref_chosen_logps": reference.chosen[: len(pairs)].tolist(),
            "ref_rejected_logps": reference.rejected[: len(pairs)].tolist(),
        }
    )
