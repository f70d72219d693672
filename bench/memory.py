"""Planned peaks beside measured ones: `python -m bench.memory [FOLDER]` prints a table; takes some ten minutes of two cores.

Every step runs in a process of its own (bench/memory_run.py), whose peak is the largest resident set that Linux saw (VmHWM). The
models are the embedded one and two of other shapes with random weights: wide and shallow without shared key heads, and one
with a sixth of the key heads and a larger vocabulary.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.measurement import WrongResult
from bench.memory_run import Job
from rlaif_dagster import memory_plan
from rlaif_dagster.home import CHECKOUT, current_home
from rlaif_dagster.memory_plan import Need, Setting, Shape
from rlaif_dagster.spec.project import Project
from rlaif_dagster.spec.recipes import Dpo, Ppo, Reward, Sft

SHAPES: dict[str, dict[str, Any]] = {
    "wide": {
        "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_attention_heads": 16,
        "num_key_value_heads": 16, "vocab_size": 32000, "tie_word_embeddings": False,
    },
    "grouped": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 64000, "tie_word_embeddings": True,
    },
}  # fmt: skip
PPO = {"rollout_batch": 16, "minibatches": 2, "micro_batch": 4}
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(
        (model, step, recipe)
        for model in ("embedded", *SHAPES)
        for step, recipe in (
            ("sampling", {"batch_size": 64}), ("benchmarks", {}), ("sft", {"batch_size": 8}),
            ("reward", {"batch_size": 8}), ("dpo", {"batch_size": 8}), ("ppo", PPO),
        )
    ),
    ("embedded", "dpo", {"batch_size": 8, "gradient_checkpointing": True}),
    ("embedded", "ppo", {**PPO, "rollout_batch": 24, "value": "own"}),
    ("grouped", "ppo", {**PPO, "rollout_batch": 24, "micro_batch": 8, "gradient_checkpointing": True}),
)  # fmt: skip


@dataclass(frozen=True)
class Peak:
    """One case: what was planned and what was seen, in bytes."""

    model: str
    step: str
    recipe: dict[str, Any]
    planned: int
    measured: int

    @property
    def error(self) -> float:
        return self.planned / self.measured - 1


def make_models(folder: Path) -> dict[str, Path]:
    """Folders in Hugging Face layout by name: the embedded model and those of `SHAPES`, made where they are not there yet."""
    from rlaif_dagster.language.base_model import weights_location

    embedded, _ = weights_location(Project.current().model("smollm2-135m-instruct"), current_home())
    found = {"embedded": Path(embedded)}
    for name, sizes in SHAPES.items():
        found[name] = folder / name
        if not (found[name] / "config.json").exists():
            _make(found[name], found["embedded"], sizes)
    return found


def _make(folder: Path, tokenizer: Path, sizes: dict[str, Any]) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    words = AutoTokenizer.from_pretrained(tokenizer)
    ends = {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    known = max(int(sizes["vocab_size"]), len(words))  # every id of the tokenizer must have a row
    model = LlamaForCausalLM(LlamaConfig(max_position_embeddings=2048, **ends, **(sizes | {"vocab_size": known})))
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def planned(job: Job) -> Need:
    """What the plan says of a job."""
    shape = Shape.of(json.loads((Path(job.folder) / "config.json").read_text(encoding="utf-8")))
    setting = Setting("cpu", job.dtype, job.quantization == "4bit")
    tokens = {"prompt": job.prompt_tokens, "answer": job.answer_tokens}
    if job.step == "sampling":
        return memory_plan.sampling(shape, setting, batch=int(job.recipe["batch_size"]), **tokens)
    if job.step == "benchmarks":
        return memory_plan.benchmarks(shape, setting, longest=job.prompt_tokens + job.answer_tokens)
    if job.step == "sft":
        return memory_plan.sft(shape, setting, Sft(**job.recipe), **tokens)
    if job.step == "reward":
        return memory_plan.reward(shape, setting, Reward(**job.recipe), **tokens)
    started = {"start": "base", **job.recipe}
    if job.step == "dpo":
        return memory_plan.dpo(shape, setting, Dpo(**started), **tokens)
    return memory_plan.ppo(shape, setting, Ppo(**started), **tokens)


def measured(job: Job) -> int:
    """The peak of the step in a process of its own, bytes. Raises WrongResult with the end of its stderr when it fails."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "bench.memory_run"],
        input=json.dumps(asdict(job)), capture_output=True, text=True, check=False, cwd=CHECKOUT, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise WrongResult(f"{job.step} on {job.folder} failed: {' | '.join(done.stderr.strip().splitlines()[-3:])}")
    return int(json.loads(done.stdout.strip().splitlines()[-1])["peak_bytes"])


def peak(models: dict[str, Path], model: str, step: str, recipe: dict[str, Any]) -> Peak:
    job = Job(step, str(models[model]), recipe)
    return Peak(model, step, recipe, planned(job).bytes, measured(job))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rlaif-bench-") as own:
        models = make_models(Path(sys.argv[1] if len(sys.argv) > 1 else own))
        print("| model | step | recipe | planned | measured | |\n|---|---|---|---|---|---|")
        for case in CASES:
            found = peak(models, *case)
            told = ", ".join(f"{name} {value}" for name, value in found.recipe.items())
            sizes = f"{found.planned / 1e9:.2f} GB | {found.measured / 1e9:.2f} GB | {found.error:+.0%}"
            print(f"| {found.model} | {found.step} | {told} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
