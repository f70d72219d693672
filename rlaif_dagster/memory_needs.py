"""The memory plan of the user's own files: each step's peak for a model, by its shape, its recipes and the longest prompt.

The shape is read from the model's config.json where the model is here, else from `shape` in its file. Lengths are those of the
longest batch that can come: the longest prompt, in tokens by a rule of thumb, and an answer of all the tokens allowed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif_dagster import memory_plan
from rlaif_dagster.memory_plan import Device, Need, Setting, Shape
from rlaif_dagster.model_files import cached_folder
from rlaif_dagster.prompts import read_prompts

if TYPE_CHECKING:
    from rlaif_dagster.home import Home
    from rlaif_dagster.spec.model import ModelSpec
    from rlaif_dagster.spec.project import Project

CHARACTERS_A_TOKEN = 3.5  # of English text; fewer than the usual 4, so that a plan errs upwards
TEMPLATE_TOKENS = 40  # of a chat template with its own system message
UNKNOWN_PROMPT = 512  # tokens, where the prompts are on the hub and were not fetched yet
CGROUP = Path("/sys/fs/cgroup/memory.max")  # a container's limit, where it has one
ARMS = ("base", "sft", "dpo", "ppo")


@dataclass(frozen=True)
class Machine:
    """What computes, and its memory in bytes."""

    device: Device
    bytes: int

    @property
    def where(self) -> str:
        return "GPU memory" if self.device == "cuda" else "memory"


@cache
def machine() -> Machine:
    """The first visible GPU by nvidia-smi, else main memory or what a container's limit leaves of it."""
    gpu = _gpu_bytes()
    return Machine("cuda", gpu) if gpu else Machine("cpu", _main_bytes())


def _gpu_bytes() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi")
    if program is None or visible in ("", "-1"):
        return 0
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    command += ["--id=" + visible.split(",")[0]] if visible else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    first = next(iter(done.stdout.split()), "")
    return int(first) * memory_plan.MIB if done.returncode == 0 and first.isdigit() else 0


def _main_bytes() -> int:
    import psutil

    total = int(psutil.virtual_memory().total)
    allowed = CGROUP.read_text(encoding="utf-8").strip() if CGROUP.exists() else "max"
    return min(total, int(allowed)) if allowed.isdigit() else total


def shape_of(spec: ModelSpec, home: Home) -> Shape | None:
    """From config.json where the model is here, else from its file; None where neither says, or where the architecture has
    other sizes than a Llama's."""
    folder = cached_folder(spec, home)
    try:
        if folder and (folder / "config.json").exists():
            return Shape.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        return Shape.of(spec.shape.model_dump()) if spec.shape else None
    except (KeyError, ValueError):
        return None


def setting_of(spec: ModelSpec, device: Device) -> Setting:
    return Setting(device, spec.dtype, spec.quantization == "4bit")


def longest_prompt(project: Project) -> int:
    """Tokens of the longest prompt with its chat template, about."""
    sources = project.prompt_sources()
    if any(source.hub for source in sources.sources):
        return UNKNOWN_PROMPT
    return tokens_of(max(read_prompts(sources, project.root / "prompts")["text"], key=len, default=""))


def tokens_of(text: str) -> int:
    return TEMPLATE_TOKENS + math.ceil(len(text) / CHARACTERS_A_TOKEN)


def needs(
    project: Project, home: Home, model: str, constitutions: Iterable[str], device: Device, prompt: int | None = None
) -> dict[str, Need]:
    """The peak of each step of a model by the asset's name; empty where the model's shape is not known."""
    spec = project.model(model)
    shape = shape_of(spec, home)
    if shape is None:
        return {}
    setting = setting_of(spec, device)
    prompt = longest_prompt(project) if prompt is None else prompt
    generation, responses = project.recipe("generation", model), project.recipe("benchmarks", model).responses
    ppo = project.recipe("ppo", model)
    completions, revisions = generation.completions, generation.revisions
    answer = max(completions.max_new_tokens, revisions.max_new_tokens)
    context = max((_in_context(project, name, generation.exemplars) for name in constitutions), default=0)

    def sampled(batch: int, prompt: int, answer: int) -> Need:
        return memory_plan.sampling(shape, setting, batch=batch, prompt=prompt, answer=answer)

    trained = {"prompt": prompt, "answer": answer}
    found = {
        "completions": sampled(completions.batch_size, prompt, completions.max_new_tokens),
        "revisions": sampled(revisions.batch_size, prompt + context, revisions.max_new_tokens),
        "sft_model": memory_plan.sft(shape, setting, project.recipe("sft", model), **trained),
        "reward_model": memory_plan.reward(shape, setting, project.recipe("reward", model), **trained),
        "dpo_model": memory_plan.dpo(shape, setting, project.recipe("dpo", model), **trained),
        "ppo_model": memory_plan.ppo(
            shape, setting, ppo, prompt=min(prompt, ppo.max_prompt_tokens), answer=ppo.max_new_tokens
        ),
    }
    for arm in ARMS:
        found[f"{arm}_responses"] = sampled(responses.batch_size, prompt, responses.max_new_tokens)
        found[f"{arm}_benchmarks"] = memory_plan.benchmarks(shape, setting, longest=prompt + answer)
    if generation.backend != "transformers":  # a server holds the weights
        del found["completions"], found["revisions"]
    return {asset: replace(need, step=asset) for asset, need in found.items()}


def _in_context(project: Project, name: str, exemplars: int) -> int:
    """Tokens of a constitution's principles and exemplars, which revisions have before their prompt."""
    constitution = project.constitution(name)
    texts = [principle.text for principle in constitution.principles]
    shown = constitution.exemplars[:exemplars]
    return sum(map(tokens_of, [*texts, *(text for one in shown for text in (one.prompt, one.response))]))
