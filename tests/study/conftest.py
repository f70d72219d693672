"""A whole study on the tiny model: every asset for real, in seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rlaif_dagster.home import CHECKOUT
from tests.browser import browser
from tests.checkout import Checkout
from tests.tiny import make_tiny_model

__all__ = ["browser", "tiny_study"]

RECIPES = {
    "generation": "completions: {max_new_tokens: 8}\nrevisions: {max_new_tokens: 8, samples: 2}\nexemplars: 1\n",
    "judging": "judge: likelihood\npairs: {min_margin: 0.0, held_out_share: 0.4}\n",
    "sft": "max_length: 400\n",
    "reward": "max_length: 400\nmin_accuracy: 0.0\nmin_gain_over_length: -1\nmax_calibration_error: 1\n",
    "dpo": "max_length: 400\n",
    "ppo": "updates: 1\nrollout_batch: 4\nmax_new_tokens: 8\nheld_out_prompts: 2\nmax_kl: 1000\n"
    "min_entropy: 0.0\nmin_eos_share: 0.0\nmin_distinct: 0.0\nmin_length_share: 0\nmax_length_share: 1000\nmax_repetition: 1\n",
    "benchmarks": "tasks: [{task: mmlu_mini, limit: 2}]\nresponses: {max_new_tokens: 8}\n",
}
CONSTITUTION = """\
# a comment
description: for people
principles:
  - {id: short, text: Answer in a few words only., weight: 1}
  - {id: plain, text: Answer in plain words without jargon., weight: 1}
exemplars:
  - {prompt: "What is ice?", response: "Answer: Frozen water."}
format:
  fields: [{label: Answer}]
"""


def prompt_lines(splits: dict[str, int]) -> str:
    words = [
        "rain",
        "salt",
        "iron",
        "moss",
        "wind",
        "clay",
        "milk",
        "rope",
        "coal",
        "wool",
        "sand",
        "leaf",
        "bone",
        "glue",
    ]
    rows = []
    for split, n in splits.items():
        for _ in range(n):
            word = words[len(rows)]
            rows.append({"split": split, "category": "factual", "text": f"Tell me of {word}.", "reference": [word]})
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A study that the tests of one module edit and put back."""
    return make_study(tmp_path_factory.mktemp("tiny_study"))


def make_study(folder: Path, model: str | None = None) -> Checkout:
    """Data for one model and two constitutions, and an empty home. `model` is the text of its file, by default that of a tiny
    one with random weights; its name is tiny either way."""
    data = folder / "data"
    model = model or f"folder: {make_tiny_model(folder / 'model')}\n"
    files = {
        "study.yaml": "models: [tiny]\nconstitutions: [brief]\n",
        "models/tiny.yaml": model,
        "constitutions/brief.yaml": CONSTITUTION,
        "constitutions/other.yaml": CONSTITUTION,
        "judges/likelihood.yaml": "kind: likelihood\nmodel: tiny\n",
        "prompts/sources.yaml": "sources: [{file: study.jsonl}]\n",
        "prompts/study.jsonl": prompt_lines({"train": 9, "eval": 3, "qualitative": 2}),
        "labels/pairs.yaml": "file: pairs.jsonl\nconstitutions: [brief, other]\n",
        "labels/pairs.jsonl": '{"prompt": "Hi?", "answer_a": "Yes.", "answer_b": "No no.", "preferred": "a", "category": "x"}\n',
        **{f"recipes/{stage}.yaml": text for stage, text in RECIPES.items()},
    }
    for name, text in files.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(text, encoding="utf-8")
    shutil.copytree(CHECKOUT / "data" / "benchmarks", data / "benchmarks")
    return Checkout(Path(data), folder / "home")
