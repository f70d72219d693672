"""The model card of a published adapter, in Hugging Face's form: what it is, how it was trained, and what it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

TAGS = ["rlaif", "ai-feedback", "constitutional-ai", "lora"]
ARMS = {
    "sft": ("supervised fine-tuning on the answers that an AI judge preferred", ["sft", "trl"]),
    "reward": ("a Bradley-Terry reward model of an AI judge's preferences", ["reward-model", "trl"]),
    "dpo": ("direct preference optimization on an AI judge's preferences", ["dpo", "trl"]),
    "ppo": ("proximal policy optimization on an AI judge's preferences", ["ppo"]),
}
FOLDER = "path/to/this/folder"
USE_ADAPTER = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

# a base model that is not on the hub: the folder that `rlaif models pull {base}` prints
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")
```"""
USE_MERGED = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```"""
ROUNDED = """\
The weights are in {dtype}: adding the adapter to them rounded a part of it away. What the study trained and evaluated is the
adapter beside the base model's weights (`rlaif export --adapter`)."""
USE_REWARD = """\
The head reads the last hidden state at the end token that closes the answer. When loading the adapter on a sequence
classifier, set a padding token that is not the end token: the classifier looks for the last token that is no padding."""


def write_card(
    folder: Path,
    *,
    title: str,
    base: str,
    arm: str,
    recipe: Mapping[str, Any],
    lineage: Sequence[tuple[str, str, str]],
    metrics: Mapping[str, float],
    license: str = "",
    merged: bool = False,
) -> Path:
    """Write `README.md` into `folder` and return its path.

    `base` is the base model's repository or name, `arm` one of sft, reward, dpo, ppo, `lineage` the (asset, partition,
    version) it was made from, `metrics` the last value of each curve, `license` the base model's where known; `merged` says
    that the folder holds whole weights instead of an adapter.
    """
    what, tags = ARMS[arm]
    front = ModelCardData(
        base_model=base,
        library_name="transformers" if merged else "peft",
        pipeline_tag="text-classification" if arm == "reward" else "text-generation",
        tags=[*TAGS, *tags],
        license=license.lower() or None,
    )
    use = USE_REWARD if arm == "reward" else USE_MERGED if merged else USE_ADAPTER.format(base=base, tokenizer=base)
    parts = [
        f"---\n{front.to_yaml()}\n---",
        f"# {title}",
        f"`{base}` after {what}.",
        use,
        "## Recipe\n\n" + _table(("field", "value"), _flat(recipe)),
        "## Lineage\n\n" + _table(("asset", "partition", "version"), lineage),
        "## Training\n\n"
        + _table(("metric", "last value"), [(name, f"{value:.6g}") for name, value in metrics.items()]),
    ]
    path = folder / "README.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested fields as dotted names."""
    for name, field in value.items():
        if isinstance(field, Mapping):
            yield from _flat(field, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(field)


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot leave its table cell or become markup."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
