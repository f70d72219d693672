"""Every training stage as one function of plain values, to be run in a process that a test can kill."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.home import Home
from rlaif_dagster.judging.likelihood import LikelihoodJudge
from rlaif_dagster.language.base_model import load
from rlaif_dagster.spec.constitution import Constitution, Principle
from rlaif_dagster.spec.judge import LikelihoodJudge as LikelihoodSpec
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.recipes import Dpo, Judging, Lora, Ppo, Reward, Sft
from rlaif_dagster.training.dpo import train_dpo
from rlaif_dagster.training.ppo.judged import DirectJudge
from rlaif_dagster.training.ppo.loop import train_ppo
from rlaif_dagster.training.reward import train_reward
from rlaif_dagster.training.sft import train_sft
from rlaif_dagster.training.store import ModelStore
from rlaif_dagster.training.trained import Trained

# dropout makes the random state part of what a resume must restore
SUPERVISED = {
    "lora": Lora(r=4, alpha=8, dropout=0.2), "epochs": 10, "batch_size": 2, "gradient_accumulation": 2,
    "learning_rate": 1e-3, "save_steps": 3,
}  # fmt: skip
PPO = {
    "updates": 10, "rollout_batch": 8, "minibatches": 2, "micro_batch": 3, "epochs": 2, "learning_rate": 5e-3,
    "max_new_tokens": 6, "lora": Lora(r=4, alpha=8), "held_out_prompts": 2, "evaluate_updates": 3, "save_updates": 1,
    "max_kl": 1e6, "kl_target": 1.0,
}  # fmt: skip
PPO_KINDS = {
    "ppo": {"reward": {"model": 1.0}},
    "ppo_judged": {"reward": {"model": 1.0, "judge": 0.5}, "value": "own"},
    "ppo_separate": {"start": "base", "separate": True, "value": "own", "learning_rate": 1e-3},
}
STAGES = ("sft", "reward", "dpo", *PPO_KINDS)
RULES = Constitution(principles=(Principle(id="short", text="Answer in a few words only."),))


def train(stage: str, model: str, pairs: str, folder: str, start: str | None, reward: str | None) -> None:
    """Publish a stage's adapter under FOLDER/models/key, as an asset does; `pairs` is a JSON file, `start` and `reward` the
    folders of an SFT adapter and of a reward model."""
    home, spec, frame = Home(Path(folder)), ModelSpec(folder=model), pd.read_json(pairs, orient="records")
    work = home.work / stage

    def fill(target: Path) -> Trained:
        lm = load("tiny", spec, home)
        where = {"seed": 5, "work": work, "target": target}
        if stage == "sft":
            return train_sft(lm, frame, Sft(**SUPERVISED), **where)
        if stage == "reward":
            return train_reward(lm, frame, Reward(**SUPERVISED), **where)
        adapter = Path(start) if start else None
        if stage == "dpo":
            return train_dpo(lm, frame, Dpo(**SUPERVISED), start_adapter=adapter, **where)
        recipe = Ppo.model_validate({**PPO, **PPO_KINDS[stage]})
        judge = LikelihoodJudge("likelihood", LikelihoodSpec(kind="likelihood", model="tiny"), spec, home)
        prompts = pd.DataFrame(
            {"prompt_id": [content_hash(text) for text in frame["prompt"]], "split": "train", "text": frame["prompt"]}
        )
        return train_ppo(
            lm, Path(str(reward)), prompts, recipe, **where, start_adapter=adapter if recipe.start == "sft" else None,
            judge=DirectJudge(judge, RULES, Judging(judge="likelihood")),
        )  # fmt: skip

    ModelStore(home.models).publish("key", fill)


def train_quietly(*arguments: str | None) -> None:
    """`train` without what it prints."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        train(*arguments)
