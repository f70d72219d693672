"""Talking to a trained arm and taking it along: on a tiny model with an adapter that visibly changes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import Result

from rlaif_dagster.cli.chat import printable
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.training.card import write_card
from rlaif_dagster.warehouse.store import Cell, Warehouse

Command = Callable[..., Result]
CELL = Cell("tiny", "structured")


@pytest.fixture
def trained(data: Path, home: Home, tiny_model_folder: Path) -> Path:
    """A dpo adapter with seeds 3 and 5 in the store, as the stage leaves it; returns the folder of seed 3."""
    (data / "models/tiny.yaml").write_text(f"folder: {tiny_model_folder}\n")
    folders = {}
    for seed in (3, 5):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
        model = get_peft_model(
            base, LoraConfig(r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
        )
        folders[seed] = home.models / f"key{seed}"
        model.save_pretrained(folders[seed])
        write_card(
            folders[seed],
            title="t",
            base="tiny",
            arm="dpo",
            recipe={},
            lineage=[("preference_pairs", "", "v1")],
            metrics={},
        )
        (folders[seed] / "record.json").write_text("{}")
    rows = [
        {
            "arm": "dpo",
            "seed": seed,
            "path": f"key{seed}",
            "digest": "d",
            "start": "base",
            "recipe_hash": "r",
            "tokens": 1,
            "seconds": 1.0,
            "peak_memory_bytes": 1,
        }
        for seed in (5, 3)
    ]
    Warehouse(home.warehouse).write("models", pd.DataFrame(rows), CELL, "dpo")
    return folders[3]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([[5, 6, 7, 8]])).logits


def test_the_exported_model_is_base_and_adapter_in_one_and_its_card_says_so(
    rlaif: Command, trained: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out" / "policy"
    assert rlaif("export", "--arm", "dpo", str(target)).stdout == f"{target}\n"
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    expected = logits(PeftModel.from_pretrained(base, trained))
    exported = AutoModelForCausalLM.from_pretrained(target)
    torch.testing.assert_close(logits(exported), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(tiny_model_folder)), expected, atol=1e-2)
    assert AutoTokenizer.from_pretrained(target).chat_template
    card = (target / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "PeftModel" not in card
    assert "| preference_pairs |" in card
    assert not list(target.glob("*.bin"))
    assert "rounded" not in card


def test_in_16_bits_the_merged_model_is_exported_with_a_word_about_what_the_merge_cost(
    rlaif: Command, trained: Path, data: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    with (data / "models/tiny.yaml").open("a") as file:
        file.write("dtype: bfloat16\n")
    rlaif("export", "--arm", "dpo", str(tmp_path / "out"))
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert exported.dtype == torch.bfloat16
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    plain, adapted = logits(base), logits(PeftModel.from_pretrained(base, trained))
    assert (logits(exported).float() - adapted).norm() < 0.1 * (plain - adapted).norm()
    assert (
        "in bfloat16: adding the adapter to them rounded a part of it away" in (tmp_path / "out/README.md").read_text()
    )


def test_the_adapter_alone_is_what_peft_loads(
    rlaif: Command, trained: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "adapter"
    target.mkdir()  # an empty folder is as good as none
    rlaif("export", "--arm", "dpo", "--adapter", str(target))
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_folder), target)
    original = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_folder), trained)
    torch.testing.assert_close(logits(loaded), logits(original))
    assert sorted(path.name for path in target.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_an_adapter_brings_the_tokenizer_and_the_chat_template_that_it_was_trained_with(
    rlaif: Command, trained: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "adapter"
    rlaif("export", "--arm", "dpo", "--adapter", str(target))
    base, exported = (AutoTokenizer.from_pretrained(folder) for folder in (tiny_model_folder, target))
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    assert exported.chat_template == base.chat_template
    asked = [one.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] for one in (exported, base)]
    assert asked[0] == asked[1]
    assert (exported.eos_token, exported.pad_token) == (base.eos_token, base.pad_token)
    card = (target / "README.md").read_text()
    assert 'AutoTokenizer.from_pretrained("path/to/this/folder")' in card
    assert 'AutoModelForCausalLM.from_pretrained("tiny")' in card
    assert "library_name: peft" in card
    assert "| preference_pairs |" in card


def test_an_adapter_whose_base_is_gone_is_not_exported_in_part(
    rlaif: Command, data: Path, trained: Path, tmp_path: Path
) -> None:
    (data / "models/tiny.yaml").write_text(f"folder: {tmp_path / 'gone'}\n")
    with pytest.raises(UserError, match=r"gone: no config\.json; field 'folder' of the model file"):
        rlaif("export", "--arm", "dpo", "--adapter", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_another_seed_is_another_model(rlaif: Command, trained: Path, tmp_path: Path) -> None:
    rlaif("export", "--arm", "dpo", str(tmp_path / "three"))
    rlaif("export", "--arm", "dpo", "--seed", "5", str(tmp_path / "five"))
    three, five = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("three", "five"))
    assert not torch.allclose(logits(three), logits(five), atol=1e-2)
    with pytest.raises(UserError, match="has no seed 4; trained seeds: 3, 5"):
        rlaif("export", "--arm", "dpo", "--seed", "4", str(tmp_path / "four"))


@pytest.mark.parametrize(
    ("arm", "part"),
    [("base", "arm base is the base model itself"), ("ppo", "arm ppo of tiny/structured is not trained yet")],
)
@pytest.mark.usefixtures("trained")
def test_what_was_not_trained_cannot_be_exported(rlaif: Command, tmp_path: Path, arm: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        rlaif("export", "--arm", arm, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("trained")
def test_nothing_is_overwritten(rlaif: Command, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "notes.txt").write_text("precious")
    for folder in (target, target / "notes.txt"):
        with pytest.raises(UserError, match="exists and is not an empty folder"):
            rlaif("export", "--arm", "dpo", str(folder))
    assert (target / "notes.txt").read_text() == "precious"


def test_an_adapter_that_was_deleted_is_told(rlaif: Command, trained: Path, tmp_path: Path) -> None:
    trained.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"key3: the adapter of arm dpo is gone; run `rlaif up`"):
        rlaif("chat", "--arm", "dpo")


@pytest.mark.usefixtures("trained")
def test_the_arms_answer_differently_and_greedy_answers_are_the_same_again(rlaif: Command) -> None:
    def answer(arm: str) -> str:
        return rlaif("chat", "--arm", arm, "--max-new-tokens", "8", stdin="What is the capital of France?\n").stdout

    assert answer("dpo") == answer("dpo") != answer("base")


@pytest.mark.usefixtures("trained")
def test_the_conversation_is_remembered_until_it_is_new(rlaif: Command) -> None:
    def answers(*lines: str) -> list[str]:
        # the tiny model's answers are noise, line breaks among them; only sequences of whole outputs can be compared
        return [rlaif("chat", "--arm", "dpo", "--max-new-tokens", "6", stdin="\n".join(lines) + "\n").stdout]

    question = "How many legs does a spider have?"
    assert answers(question, question) != answers(question, "/new", question)
    assert answers(question, "/quit", question) == answers(question)


@pytest.mark.usefixtures("trained")
def test_a_conversation_that_no_longer_fits_is_told(rlaif: Command) -> None:
    with pytest.raises(UserError, match="exceeds the model's 1024; start over with /new"):
        rlaif("chat", "--arm", "dpo", "--max-new-tokens", "1024", stdin="Hello\n")


def test_an_answer_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b[31mred\x07\r\x9b2J — “é”\n\tb\u202e") == "a[31mred2J — “é”\n\tb"
