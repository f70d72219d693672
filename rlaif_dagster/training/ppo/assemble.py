"""From a recipe to the models and the reward that its training runs with."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Ppo
from rlaif_dagster.training.ppo.backbone import Backbone
from rlaif_dagster.training.ppo.judged import DirectJudge, JudgeSource, reference_answers
from rlaif_dagster.training.ppo.prompts import Prompts
from rlaif_dagster.training.ppo.separate import SeparateModels
from rlaif_dagster.training.ppo.share import Share
from rlaif_dagster.training.ppo.sources import RewardModelSource, RewardSource, WeightedSum
from rlaif_dagster.training.reward_model import reward_parts


def make_models(
    lm: LanguageModel, reward: Path | None, recipe: Ppo, *, seed: int, start: Path | None
) -> tuple[Backbone, Tensor | None]:
    """The models, and the reward model's head [1, hidden] where its folder is given. `lm` is altered."""
    state, head, config = reward_parts(reward) if reward is not None else (None, None, None)
    parts = (state, config) if state is not None and config is not None else None
    kind = SeparateModels if recipe.separate else Backbone
    own_value = recipe.value == "own"
    return kind(lm, recipe.lora, seed=seed, start=start, reward=parts, reward_head=head, own_value=own_value), head


def make_source(
    backbone: Backbone,
    head: Tensor | None,
    judge: DirectJudge | None,
    recipe: Ppo,
    prompts: Prompts,
    work: Path,
    share: Share,
) -> RewardSource:
    """What the recipe pays for. `prompts` are all that will be answered; a judge compares with the start policy's answers to
    them, which are kept under `work`. Raises ValueError when what the recipe asks for is not given."""
    parts: dict[str, tuple[float, RewardSource]] = {}
    if recipe.reward.model:
        if head is None:
            raise ValueError("the recipe pays by the reward model, and none is given")
        parts["model"] = (recipe.reward.model, RewardModelSource(backbone, head, recipe.rollout_batch, share))
    if recipe.reward.judge:
        if judge is None:
            raise ValueError("the recipe pays by the judge, and none is given")
        answers = reference_answers(
            backbone, prompts, batch=recipe.rollout_batch, max_new_tokens=recipe.max_new_tokens, work=work, share=share
        )
        parts["judge"] = (recipe.reward.judge, JudgeSource(backbone, judge, answers, share))
    return WeightedSum(parts) if len(parts) > 1 else next(iter(parts.values()))[1]
