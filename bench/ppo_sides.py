"""One side of `bench.ppo` in a process of its own: `python -m bench.ppo_sides ours|peer|prepare TRL_FOLDER`, job on stdin.

The last line on stdout is one JSON object. Heavy imports come after the peer's folder was put in front of the path.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.ppo import TRL, Job

RESIDENT = "VmHWM:"  # largest resident set of this very program, in kB; getrusage counts what its parent held as well


def peak_bytes() -> int:
    """On CUDA the largest allocation, elsewhere the largest resident set."""
    import torch

    from rlaif_dagster.training import memory

    status = Path("/proc/self/status")
    if torch.cuda.is_available() or not status.exists():
        return memory.peak_bytes()
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(RESIDENT))
    return int(line.split()[1]) * 1024


def device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def prepare(job: dict[str, Any]) -> dict[str, str]:
    """The weights as a folder, and an untrained reward adapter on them."""
    from peft import LoraConfig, get_peft_model

    from rlaif_dagster.home import current_home
    from rlaif_dagster.language.base_model import load, weights_location
    from rlaif_dagster.spec.project import Project
    from rlaif_dagster.training import adapters
    from rlaif_dagster.training.reward_model import HEAD, classifier, scoring_tokenizer

    spec, home = Project.current().model(job["model"]), current_home()
    folder, _ = weights_location(spec, home)
    lm = load(job["model"], spec, home)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="SEQ_CLS", modules_to_save=[HEAD])
    model = get_peft_model(classifier(lm, int(scoring_tokenizer(lm).pad_token_id), seed=0), config)
    target = Path(job["folder"]) / "reward"
    adapters.save(model, target, lm)
    return {"model": folder, "reward": str(target)}


def ours(job: Job) -> dict[str, Any]:
    """`train_ppo` as the asset calls it, from the base model."""
    import pandas as pd
    import torch

    from rlaif_dagster.hashing import content_hash
    from rlaif_dagster.home import Home
    from rlaif_dagster.language.base_model import load
    from rlaif_dagster.spec.model import ModelSpec
    from rlaif_dagster.spec.recipes import Lora, Ppo
    from rlaif_dagster.training.adapters import WEIGHTS
    from rlaif_dagster.training.ppo.loop import train_ppo

    recipe = Ppo(
        start="base", updates=job.updates, rollout_batch=job.rollout_batch, minibatches=job.minibatches,
        micro_batch=job.micro_batch, epochs=job.epochs, max_new_tokens=job.response_length, temperature=job.temperature,
        learning_rate=job.learning_rate, kl_coefficient=job.kl_coefficient, missing_eos_penalty=0.0,
        lora=Lora(r=job.rank, alpha=job.alpha), held_out_prompts=1, evaluate_updates=job.updates, save_updates=job.updates,
    )  # fmt: skip
    prompts = pd.DataFrame(
        {"prompt_id": [content_hash(text) for text in job.prompts], "split": "train", "text": job.prompts}
    )
    with tempfile.TemporaryDirectory(prefix="rlaif-bench-") as folder:
        target = Path(folder) / "target"
        target.mkdir()
        spec = ModelSpec(folder=job.model, dtype="bfloat16" if torch.cuda.is_available() else "float32")
        lm = load("bench", spec, Home(Path(folder)))
        start, busy = time.perf_counter(), time.process_time()
        with _evaluations() as evaluating:
            trained = train_ppo(
                lm, Path(job.reward), prompts, recipe,
                seed=0, work=Path(folder) / "work", target=target, start_adapter=None,
            )  # fmt: skip
        seconds = time.perf_counter() - start - evaluating.seconds
        busy = time.process_time() - busy - evaluating.cpu_seconds
        peak = peak_bytes()
        moved = _norm_of_b(target / WEIGHTS)
        timings = json.loads((target / "timings.json").read_text(encoding="utf-8"))
    curves = {name: rows.set_index("step")["value"] for name, rows in trained.metrics.groupby("name")}
    phases = {name: sum(entry.get(name, 0.0) for entry in timings) for name in ("sampling", "scoring", "updating")}
    return {
        "seconds": seconds, "cpu_seconds": busy, "peak_bytes": peak, "episodes": len(curves["reward"]) * job.rollout_batch,
        "updates": len(curves["reward"]), "entropy": float((curves["entropy"] * curves["response_length"]).mean()),
        "response_tokens": float(curves["response_length"].mean()), "moved": moved, "threads": torch.get_num_threads(),
        "device": device_name(), "phases": {**phases, "rest": seconds - sum(phases.values())},
        "evaluating": evaluating.seconds,
    }  # fmt: skip


@dataclass
class _Spent:
    """Wall and processor seconds."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def _evaluations() -> Iterator[_Spent]:
    """What `train_ppo` spends on held-out evaluations inside the block."""
    from rlaif_dagster.training.ppo import loop

    spent, evaluate = _Spent(), loop.evaluate

    def timed(*arguments: Any) -> Any:
        start, busy = time.perf_counter(), time.process_time()
        found = evaluate(*arguments)
        spent.seconds += time.perf_counter() - start
        spent.cpu_seconds += time.process_time() - busy
        return found

    loop.evaluate = timed
    try:
        yield spent
    finally:
        loop.evaluate = evaluate


def _norm_of_b(weights: Path) -> float:
    """Norm of an adapter's B matrices, which start at zero."""
    from safetensors.torch import load_file

    return math.sqrt(sum(float(value.square().sum()) for name, value in load_file(weights).items() if "lora_B" in name))


def peer(job: Job, folder: Path) -> dict[str, Any]:
    """TRL's trainer with its own reference (the policy with its adapter off), reward and value model."""
    sys.path.insert(0, str(folder))
    import torch
    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    if not Path(str(trl.__file__)).is_relative_to(folder):
        raise RuntimeError(f"trl {TRL} was asked for, but {trl.__file__} was imported")
    tokenizer = AutoTokenizer.from_pretrained(job.model, padding_side="left")
    tokenizer.add_special_tokens({"pad_token": "<|endoftext|>"})
    chats = [[{"role": "user", "content": text}] for text in job.prompts[: job.episodes]]
    ids = [tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] for chat in chats]
    data = Dataset.from_dict({"input_ids": ids})
    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if cuda else torch.float32
    policy = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype)
    reward, value = (
        AutoModelForSequenceClassification.from_pretrained(job.model, num_labels=1, dtype=dtype) for _ in range(2)
    )
    for model in (policy, reward, value):
        model.config.pad_token_id = tokenizer.pad_token_id
    with tempfile.TemporaryDirectory(prefix="rlaif-bench-") as output:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=output, per_device_train_batch_size=job.micro_batch, num_mini_batches=job.minibatches,
                gradient_accumulation_steps=job.rollout_batch // job.micro_batch,  # TRL's rollout batch is their product
                num_ppo_epochs=job.epochs, total_episodes=job.episodes, learning_rate=job.learning_rate,
                response_length=job.response_length, temperature=job.temperature, kl_coef=job.kl_coefficient,
                local_rollout_forward_batch_size=job.rollout_batch, report_to=[], use_cpu=not cuda, bf16=cuda,
                num_sample_generations=0, save_strategy="no", logging_steps=1, stop_token="eos",
                gradient_checkpointing=False,
            ),
            processing_class=tokenizer, model=policy, ref_model=None, reward_model=reward, value_model=value,
            train_dataset=data, eval_dataset=data.select(range(8)),
            peft_config=LoraConfig(r=job.rank, lora_alpha=job.alpha, target_modules="all-linear", task_type="CAUSAL_LM"),
        )  # fmt: skip
        logged: list[dict[str, float]] = []
        log = trainer.log

        def keep(metrics: dict[str, float], *rest: Any) -> None:
            if "objective/entropy" in metrics:  # what follows at the end sums up
                logged.append(dict(metrics))
            log(metrics, *rest)

        trainer.log = keep
        lengths: list[float] = []
        truncate = ppo_trainer.truncate_response

        def counted(stop: int, pad: int, responses: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = truncate(stop, pad, responses)
            lengths.extend((found != pad).sum(1).tolist())
            return found

        ppo_trainer.truncate_response = counted
        start, busy = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = peak_bytes()
    factors = [p for name, p in trainer.model.policy.named_parameters() if "lora_B" in name]
    tokens = sum(lengths) / len(lengths)
    entropies = [metrics["objective/entropy"] for metrics in logged]
    return {
        "seconds": seconds, "cpu_seconds": busy, "peak_bytes": peak, "episodes": trainer.state.episode, "updates": len(logged),
        "entropy": sum(entropies) / len(entropies), "response_tokens": tokens,
        "moved": math.sqrt(sum(float(p.detach().float().square().sum()) for p in factors)),
        "threads": torch.get_num_threads(), "device": device_name(), "phases": {},
    }  # fmt: skip


def main() -> None:
    side, folder = sys.argv[1], Path(sys.argv[2])
    job = json.load(sys.stdin)
    if side == "prepare":
        found: dict[str, Any] = prepare(job)
    else:
        found = ours(Job(**job)) if side == "ours" else peer(Job(**job), folder)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
