"""The memory plan of the user's own files: each step's peak for a model, by its shape, its recipes and the longest prompt.

The shape is read from the model's config.json where the model is here, else from `shape` in its file. Lengths are those of the
longest batch that can come: the longest prompt, in tokens by a rule of thumb, and an answer of all the tokens allowed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from rlaif_dagster import memory_plan
from rlaif_dagster.memory_places import Places
from rlaif_dagster.memory_plan import Device, Need, Setting, Shape
from rlaif_dagster.model_files import snapshot
from rlaif_dagster.prompts import read_prompts

if TYPE_CHECKING:
    from rlaif_dagster.home import Home
    from rlaif_dagster.spec.model import ModelSpec
    from rlaif_dagster.spec.project import Project

CHARACTERS_A_TOKEN = 3.5  # of English text; fewer than the usual 4, so that a plan errs upwards
TEMPLATE_TOKENS = 40  # of a chat template with its own system message
UNKNOWN_PROMPT = 512  # tokens, where the prompts are on the hub and were not fetched yet
ARMS = ("base", "sft", "dpo", "ppo")


def shape_of(spec: ModelSpec, home: Home) -> Shape | None:
    """From config.json where the model is here, else from its file; None where neither says, or where the architecture has
    other sizes than a Llama's."""
    folder = snapshot(spec, home)
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
    project: Project, home: Home, model: str, constitutions: Iterable[str], places: Places, prompt: int | None = None
) -> dict[str, Need]:
    """The peak of each step of a model by the asset's name, in all copies that share its memory; empty where the model's shape is
    not known. Processes that train together are planned with the whole batch each: so they compute a short last one."""
    spec = project.model(model)
    shape = shape_of(spec, home)
    if shape is None:
        return {}
    training, answering = setting_of(spec, places.training.device), setting_of(spec, places.answering.device)
    prompt = longest_prompt(project) if prompt is None else prompt
    generation, responses = project.recipe("generation", model), project.recipe("benchmarks", model).responses
    ppo = project.recipe("ppo", model)
    completions, revisions = generation.completions, generation.revisions
    answer = max(completions.max_new_tokens, revisions.max_new_tokens)
    context = max((_in_context(project, name, generation.exemplars) for name in constitutions), default=0)

    def sampled(batch: int, prompt: int, answer: int) -> Need:
        return memory_plan.sampling(shape, answering, batch=batch, prompt=prompt, answer=answer)

    trained = {"prompt": prompt, "answer": answer}
    found = {
        "completions": sampled(completions.batch_size, prompt, completions.max_new_tokens),
        "revisions": sampled(revisions.batch_size, prompt + context, revisions.max_new_tokens),
        "sft_model": memory_plan.sft(shape, training, project.recipe("sft", model), **trained),
        "reward_model": memory_plan.reward(shape, training, project.recipe("reward", model), **trained),
        "dpo_model": memory_plan.dpo(shape, training, project.recipe("dpo", model), **trained),
        "ppo_model": memory_plan.ppo(
            shape, training, ppo, prompt=min(prompt, ppo.max_prompt_tokens), answer=ppo.max_new_tokens
        ),
    }
    for arm in ARMS:
        found[f"{arm}_responses"] = sampled(responses.batch_size, prompt, responses.max_new_tokens)
        found[f"{arm}_benchmarks"] = memory_plan.benchmarks(shape, answering, longest=prompt + answer)
    if generation.backend != "transformers":  # a server holds the weights
        del found["completions"], found["revisions"]
    return {asset: replace(need, step=asset, copies=places.of(asset).copies) for asset, need in found.items()}


def _in_context(project: Project, name: str, exemplars: int) -> int:
    """Tokens of a constitution's principles and exemplars, which revisions have before their prompt."""
    constitution = project.constitution(name)
    texts = [principle.text for principle in constitution.principles]
    shown = constitution.exemplars[:exemplars]
    return sum(map(tokens_of, [*texts, *(text for one in shown for text in (one.prompt, one.response))]))
