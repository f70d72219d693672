"""SFT trains the answer and its end token, and nothing of the prompt."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from rlaif_dagster.language.scoring import score
from rlaif_dagster.spec.recipes import Lora, Sft
from rlaif_dagster.training.adapters import merge
from rlaif_dagster.training.metrics import final
from rlaif_dagster.training.sft import train_sft
from tests.rlaif_dagster.training.conftest import FreshModel

LORA = Lora(r=4, alpha=8)


def by_hand(lm: object, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Log-probability of each answer token by a plain forward pass over one unpadded sequence."""
    with torch.no_grad():
        logits = lm.model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)  # type: ignore[attr-defined]
    return logits[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None])[:, 0]


@pytest.mark.parametrize("pad_with_end", [False, True])
def test_loss_is_that_of_the_answers_with_their_end(
    fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path, pad_with_end: bool
) -> None:
    """The first step of the warm-up has learning rate 0, so its loss is the base model's: here over all twelve answers."""
    recipe = Sft(lora=LORA, epochs=2, batch_size=12, learning_rate=1e-3)
    lm = fresh_model(pad_with_end=pad_with_end)
    trained = train_sft(lm, pairs, recipe, seed=0, work=tmp_path / "w", target=tmp_path / "t")
    base = fresh_model()
    train = pairs[pairs["split"] == "train"]
    values = torch.cat(
        [
            by_hand(base, base.prompt_ids(base.chat(p)), base.answer_ids(c))
            for p, c in zip(train["prompt"], train["chosen"], strict=True)
        ]
    )
    first = trained.metrics.query("name == 'loss' and step == 1")["value"].item()
    assert first == pytest.approx(-values.mean().item(), abs=1e-4)
    lengths = [
        len(base.prompt_ids(base.chat(p)) + base.answer_ids(c))
        for p, c in zip(train["prompt"], train["chosen"], strict=True)
    ]
    assert trained.tokens == 2 * sum(lengths)
    assert trained.seconds > 0
    assert trained.peak_memory_bytes > 100e6  # of this process: torch alone takes that much


def test_learns_the_answer_and_to_end_it(fresh_model: FreshModel, tmp_path: Path) -> None:
    rows = pd.DataFrame(
        [
            {"prompt": "Name a fruit.", "chosen": "An apple.", "rejected": "No.", "split": split}
            for split in ("train", "held_out")
        ]
    )
    recipe = Sft(
        lora=Lora(r=8, alpha=16), epochs=60, batch_size=1, learning_rate=2e-2, logging_steps=10, save_steps=1000
    )
    trained = train_sft(fresh_model(), rows, recipe, seed=0, work=tmp_path / "w", target=tmp_path / "t")
    tuned = merge(fresh_model(), tmp_path / "t")
    prompt, answer = tuned.prompt_ids(tuned.chat("Name a fruit.")), tuned.answer_ids("An apple.")
    [whole] = score(tuned, [(prompt, answer)])
    assert whole.greedy
    assert answer[-1] == tuned.end_id
    generated = tuned.model.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0, len(prompt) :]
    assert generated.tolist() == answer
    # the held-out pair is the training pair here: eval_loss is the loss of the adapter that was published
    assert final(trained.metrics)["eval_loss"] == pytest.approx(-whole.logprob / len(answer), abs=1e-4)


def test_without_held_out_pairs_there_is_no_held_out_loss(
    fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    recipe = Sft(lora=LORA, max_examples=4, batch_size=4, learning_rate=1e-3)
    trained = train_sft(
        fresh_model(), pairs[pairs["split"] == "train"], recipe, seed=0, work=tmp_path / "w", target=tmp_path / "t"
    )
    values = final(trained.metrics)
    assert (values["examples"], values["held_out"]) == (4, 0)
    assert "eval_loss" not in values
