"""One step of the study on one model in a process of its own, and the largest memory it needed: `python -m bench.memory_run`.

A job comes as JSON on stdin; the last line on stdout is one JSON object. Texts are made to have the asked number of tokens (every
other prompt one less): the peak is then that of the largest batch which a recipe allows, which is what a plan promises.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from rlaif_dagster.language.base_model import LanguageModel

EXAMPLES_A_BATCH = 2  # optimizer steps of a training: moments exist after the first, the second meets them


@dataclass(frozen=True)
class Job:
    """A step, the folder of a model in Hugging Face layout, the fields of its recipe, and the tokens of a prompt and of an
    answer."""

    step: str
    folder: str
    recipe: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    quantization: str = "none"
    prompt_tokens: int = 64
    answer_tokens: int = 48


def run(job: Job, work: Path) -> None:
    """Run the step once, on as much data as its largest batches take."""
    from rlaif_dagster.home import Home
    from rlaif_dagster.language.base_model import load
    from rlaif_dagster.spec.model import ModelSpec

    spec = ModelSpec.model_validate(
        {"folder": job.folder, "dtype": job.dtype}
        | ({"quantization": job.quantization} if job.quantization != "none" else {})
    )
    STEPS[job.step](load("measured", spec, Home(work)), job, work)


def _sampling(lm: LanguageModel, job: Job, work: Path) -> None:
    from rlaif_dagster.language.sampling import sample
    from rlaif_dagster.spec.recipes import Sampling

    recipe = Sampling(max_new_tokens=job.answer_tokens, **job.recipe)
    sample(lm, [lm.chat(text) for text in _prompts(lm, job, recipe.batch_size)], recipe)


def _benchmarks(lm: LanguageModel, job: Job, work: Path) -> None:
    from rlaif_dagster.language.scoring import score

    prompts = [lm.prompt_ids(lm.chat(text)) for text in _prompts(lm, job, 32)]
    answers = [lm.answer_ids(text) for text in _answers(lm, job, 4)]
    score(lm, [(prompt, answer) for prompt in prompts for answer in answers])


def _sft(lm: LanguageModel, job: Job, work: Path) -> None:
    from rlaif_dagster.spec.recipes import Sft
    from rlaif_dagster.training.sft import train_sft

    recipe = Sft(**job.recipe)
    train_sft(lm, _pairs(lm, job, recipe.batch_size), recipe, seed=0, work=work / "sft", target=_empty(work))


def _reward(lm: LanguageModel, job: Job, work: Path) -> None:
    from rlaif_dagster.spec.recipes import Reward
    from rlaif_dagster.training.reward import train_reward

    recipe = Reward(**job.recipe)
    train_reward(lm, _pairs(lm, job, recipe.batch_size), recipe, seed=0, work=work / "reward", target=_empty(work))


def _dpo(lm: LanguageModel, job: Job, work: Path) -> None:
    from rlaif_dagster.spec.recipes import Dpo
    from rlaif_dagster.training.dpo import train_dpo

    recipe, pairs = Dpo(**job.recipe), _pairs(lm, job, Dpo(**job.recipe).batch_size)
    train_dpo(lm, pairs, recipe, seed=0, work=work / "dpo", target=_empty(work), start_adapter=None)


def _ppo(lm: LanguageModel, job: Job, work: Path) -> None:
    import pandas as pd

    from rlaif_dagster.hashing import content_hash
    from rlaif_dagster.spec.recipes import Ppo
    from rlaif_dagster.training.ppo.loop import train_ppo

    given: dict[str, Any] = {"start": "base", "updates": 2, "held_out_prompts": 1, "max_new_tokens": job.answer_tokens}
    recipe = Ppo(**given | job.recipe)
    texts = _prompts(lm, job, recipe.rollout_batch + 2)
    prompts = pd.DataFrame({"prompt_id": [content_hash(text) for text in texts], "split": "train", "text": texts})
    reward = _reward_adapter(lm, recipe.lora.r, work / "reward")
    train_ppo(lm, reward, prompts, recipe, seed=0, work=work / "ppo", target=_empty(work), start_adapter=None)


def _reward_adapter(lm: LanguageModel, rank: int, folder: Path) -> Path:
    """A reward model's peft folder that was never trained: its size is what counts."""
    import torch
    from peft import LoraConfig
    from safetensors.torch import save_file

    from rlaif_dagster.training.reward_model import HEAD

    prefix = lm.model.base_model_prefix
    layers = {name: (layer.in_features, layer.out_features) for name, layer in _linear(lm)}
    tensors = {f"base_model.model.{HEAD}.weight": torch.ones(1, lm.model.config.hidden_size)}
    for name, (inputs, outputs) in layers.items():
        tensors[f"base_model.model.{prefix}.{name}.lora_A.weight"] = torch.randn(rank, inputs) * 0.01
        tensors[f"base_model.model.{prefix}.{name}.lora_B.weight"] = torch.zeros(outputs, rank)
    folder.mkdir()
    modules = sorted({name.rpartition(".")[2] for name in layers})
    LoraConfig(r=rank, lora_alpha=rank, target_modules=modules, task_type="SEQ_CLS").save_pretrained(str(folder))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def _linear(lm: LanguageModel) -> Iterator[tuple[str, Any]]:
    import torch

    trunk = lm.model.base_model.named_modules()
    return ((name, layer) for name, layer in trunk if isinstance(layer, torch.nn.Linear))


STEPS: dict[str, Callable[[LanguageModel, Job, Path], None]] = {
    "sampling": _sampling, "benchmarks": _benchmarks, "sft": _sft, "reward": _reward, "dpo": _dpo, "ppo": _ppo,
}  # fmt: skip


def _empty(work: Path) -> Path:
    target = work / "target"
    target.mkdir()
    return target


def _prompts(lm: LanguageModel, job: Job, count: int) -> list[str]:
    """`count` different prompts whose chats have `prompt_tokens` tokens, and every other one a token less: batches of equal
    lengths need no mask, and real ones do."""

    def length(text: str) -> int:
        return len(lm.prompt_ids(lm.chat(text)))

    longer, shorter = (list(_texts(length, job.prompt_tokens - less, (count + 1) // 2)) for less in (0, 1))
    return [text for pair in zip(longer, shorter, strict=True) for text in pair][:count]


def _answers(lm: LanguageModel, job: Job, count: int) -> list[str]:
    """`count` different answers of exactly `answer_tokens` tokens, the end token included."""
    return list(_texts(lambda text: len(lm.answer_ids(text)), job.answer_tokens, count))


def _texts(length: Callable[[str], int], tokens: int, count: int) -> Iterator[str]:
    """Different texts of exactly `tokens` tokens. Raises ValueError where the template alone is longer."""
    number = found = 0
    while found < count:
        text = f"{number}"
        if length(text) > tokens:
            raise ValueError(f"{length(text)} tokens are there without any text; ask for more than {tokens}")
        while length(text) < tokens:
            text += " a"
        number += 1
        if length(text) == tokens:
            found += 1
            yield text


def _pairs(lm: LanguageModel, job: Job, batch: int) -> pd.DataFrame:
    """Pairs for `EXAMPLES_A_BATCH` batches and a few held-out ones."""
    import pandas as pd

    count = EXAMPLES_A_BATCH * batch
    prompts, (chosen, rejected) = _prompts(lm, job, count + 4), _answers(lm, job, 2)
    splits = ["train"] * count + ["held_out"] * 4
    return pd.DataFrame({"prompt": prompts, "chosen": chosen, "rejected": rejected, "split": splits})


def main() -> None:
    from bench.ppo_sides import peak_bytes

    job = Job(**json.load(sys.stdin))
    with tempfile.TemporaryDirectory(prefix="rlaif-bench-") as folder:
        run(job, Path(folder))
        print(json.dumps({"peak_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    main()
