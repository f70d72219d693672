"""Supervised fine-tuning on the preferred answers.

The control that published work asks for (much of what is credited to AI feedback is imitation, arXiv 2402.12366), and
the start of DPO and PPO. The loss is the mean negative log-likelihood of the answer's tokens, the end token included;
the prompt is context only. TRL's SFTTrainer is given token ids and labels, so it adds, cuts and masks nothing itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from datasets import Dataset
from trl import SFTConfig, SFTTrainer
from trl.trainer.utils import disable_dropout_in_model

from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.language.scoring import score
from rlaif_dagster.spec.recipes import Sft
from rlaif_dagster.training import adapters, memory, metrics
from rlaif_dagster.training.examples import Demonstration, counts, demonstrations
from rlaif_dagster.training.loop import Guarded, Stopwatch, arguments, fit
from rlaif_dagster.training.order import training_order
from rlaif_dagster.training.quiet import quiet
from rlaif_dagster.training.trained import Trained

IGNORED = -100  # the label of a token that is context


class _Trainer(Guarded, SFTTrainer):
    pass


def train_sft(lm: LanguageModel, pairs: pd.DataFrame, recipe: Sft, *, seed: int, work: Path, target: Path) -> Trained:
    """Train a LoRA on the chosen answers of split `train` and write it to `target`; called again with the same `work`, it
    goes on where it was. `lm` is altered: give it a fresh base.

    Metrics: loss, entropy and mean_token_accuracy a step; at the end eval_loss, the mean NLL a token (nats) on the held-out
    answers. Raises UserError when there is nothing to train on.
    """
    watch = Stopwatch(work)
    training, held_out = (demonstrations(lm, pairs, split, recipe) for split in ("train", "held_out"))
    order = training_order([item.length for item in training.items], recipe.epochs, recipe.batch_size, seed)
    disable_dropout_in_model(lm.model)  # the base is frozen: the recipe's LoRA dropout is the only noise
    with quiet():
        trainer = _Trainer(
            model=lm.model,
            args=arguments(SFTConfig, recipe, lm, seed=seed, work=work),
            train_dataset=_dataset(training.items),
            processing_class=lm.tokenizer,
            peft_config=adapters.lora_config(lm, recipe.lora, task="CAUSAL_LM"),
        )
    adapters.detach_base(trainer.model)
    fitted = fit(trainer, "sft", order, watch)
    adapters.save(trainer.model, target, lm)
    rows = metrics.at(0, counts(training, held_out)) + fitted.rows
    if held_out.items and fitted.check.passed:
        tuned = replace(lm, model=trainer.model.get_base_model())
        rows += metrics.at(fitted.step, {"eval_loss": answer_loss(tuned, held_out.items)})
    return Trained(
        metrics=metrics.frame(rows),
        tokens=sum(training.items[place].length for place in order),
        seconds=watch.seconds(),
        peak_memory_bytes=memory.peak_bytes(),
        checks=(fitted.check,),
    )


def answer_loss(lm: LanguageModel, examples: list[Demonstration]) -> float:
    """Mean negative log-likelihood (nats) over all answer tokens of the examples, end tokens included."""
    scored = score(lm, [(example.prompt, example.answer) for example in examples])
    return -sum(answer.logprob for answer in scored) / sum(answer.tokens for answer in scored)


def _dataset(examples: list[Demonstration]) -> Dataset:
    return Dataset.from_dict(
        {
            "input_ids": [example.prompt + example.answer for example in examples],
            "labels": [[IGNORED] * len(example.prompt) + example.answer for example in examples],
        }
    )
