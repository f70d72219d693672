"""Three ways to learn from the same preferences, and the reward model that PPO needs."""

import dagster as dg

from assets.step import Step, digest_of, path_of
from assets.study_asset import study_asset
from assets.training import GUARDS, Run, train_arm
from resources.judge import JudgeResource
from resources.language_model import LanguageModelResource
from resources.model_store import ModelStoreResource
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.training.trained import Trained

GRID = ("model", "constitution")
KINDS = ("torch", "huggingface")
WRITES = ("models", "training_metrics")


@study_asset(
    group="policies", dims=GRID, deps=["preference_pairs", "model_spec", "recipe_sft"], code_version="1", kinds=KINDS,
    writes=WRITES, part="sft", checks=GUARDS["sft"], pool="accelerator",
)  # fmt: skip
def sft_model(
    context: dg.AssetExecutionContext,
    project: ProjectResource,
    warehouse: WarehouseResource,
    language_model: LanguageModelResource,
    model_store: ModelStoreResource,
) -> dg.MaterializeResult:
    """Supervised fine-tuning on the preferred answers: the control, and the light start of DPO and PPO."""
    step = Step.begin(context, project, warehouse)
    recipe, pairs = step.project.recipe("sft", step.cell.model), step.read("preference_pairs")

    def train(run: Run) -> Trained:
        from rlaif_dagster.training.sft import train_sft

        return language_model.train(
            train_sft, step.model, step.model_spec, pairs, recipe, seed=run.seed, work=run.work, target=run.target
        )

    return train_arm(step, model_store, "sft", recipe, (recipe.seed,), [step.version("preference_pairs")], train)


@study_asset(
    group="policies", dims=GRID, deps=["preference_pairs", "model_spec", "recipe_reward"], code_version="1", kinds=KINDS,
    writes=WRITES, part="reward", checks=GUARDS["reward"], pool="accelerator",
)  # fmt: skip
def reward_model(
    context: dg.AssetExecutionContext,
    project: ProjectResource,
    warehouse: WarehouseResource,
    language_model: LanguageModelResource,
    model_store: ModelStoreResource,
) -> dg.MaterializeResult:
    """A Bradley-Terry reward model on the preference pairs, measured on pairs it has not seen."""
    step = Step.begin(context, project, warehouse)
    recipe, pairs = step.project.recipe("reward", step.cell.model), step.read("preference_pairs")

    def train(run: Run) -> Trained:
        from rlaif_dagster.training.reward import train_reward

        return language_model.train(
            train_reward, step.model, step.model_spec, pairs, recipe, seed=run.seed, work=run.work, target=run.target
        )

    return train_arm(step, model_store, "reward", recipe, (recipe.seed,), [step.version("preference_pairs")], train)


@study_asset(
    group="policies", dims=GRID, deps=["preference_pairs", "model_spec", "sft_model", "recipe_dpo"], code_version="1",
    kinds=KINDS, writes=WRITES, part="dpo", checks=GUARDS["dpo"], pool="accelerator",
)  # fmt: skip
def dpo_model(
    context: dg.AssetExecutionContext,
    project: ProjectResource,
    warehouse: WarehouseResource,
    language_model: LanguageModelResource,
    model_store: ModelStoreResource,
) -> dg.MaterializeResult:
    """Direct preference optimization: the pairs train the policy without a reward model."""
    step = Step.begin(context, project, warehouse)
    recipe, pairs = step.project.recipe("dpo", step.cell.model), step.read("preference_pairs")
    start = step.start_adapter(model_store, recipe.start)

    def train(run: Run) -> Trained:
        from rlaif_dagster.training.dpo import train_dpo

        return language_model.train(
            train_dpo, step.model, step.model_spec, pairs, recipe,
            seed=run.seed, work=run.work, target=run.target, start_adapter=path_of(start),
        )  # fmt: skip

    reads = [step.version("preference_pairs"), digest_of(start)]
    return train_arm(step, model_store, "dpo", recipe, recipe.seeds, reads, train)


@study_asset(
    group="policies", dims=GRID,
    deps=[
        "prompts", "model_spec", "reward_model", "sft_model", "recipe_ppo", "constitution", "judge_spec", "recipe_judging",
    ],
    code_version="1", kinds=KINDS, writes=WRITES, part="ppo", checks=GUARDS["ppo"], pool="accelerator",
)  # fmt: skip
def ppo_model(
    context: dg.AssetExecutionContext,
    project: ProjectResource,
    warehouse: WarehouseResource,
    language_model: LanguageModelResource,
    model_store: ModelStoreResource,
    judge: JudgeResource,
) -> dg.MaterializeResult:
    """Proximal policy optimization: the policy answers, reward model or judge score, the KL to its start holds it."""
    step = Step.begin(context, project, warehouse)
    recipe, questions = step.project.recipe("ppo", step.cell.model), step.training_prompts()
    start = step.start_adapter(model_store, recipe.start)
    reward = step.adapter(model_store, "reward") if recipe.reward.model else None

    def train(run: Run) -> Trained:
        from rlaif_dagster.training.ppo.judged import DirectJudge
        from rlaif_dagster.training.ppo.loop import train_ppo

        judged = recipe.reward.judge > 0
        return language_model.train(
            train_ppo, step.model, step.model_spec, path_of(reward), questions, recipe,
            seed=run.seed, work=run.work, target=run.target, start_adapter=path_of(start),
            judge=DirectJudge(judge.build(step.project), step.constitution, judge.recipe(step.project, step.committed_before))
            if judged
            else None,
        )  # fmt: skip

    reads = [sorted(questions["prompt_id"]), digest_of(reward), digest_of(start)]
    if recipe.reward.judge:
        principles = [p.meaning() for p in step.constitution.principles]
        judging = judge.recipe(step.project)
        reads.append([judge.meaning(step.project), judging.orders, judging.mode, step.judged_principles(), principles])
    return train_arm(step, model_store, "ppo", recipe, recipe.seeds, reads, train)


POLICY_ASSETS: list[dg.AssetsDefinition] = [sft_model, reward_model, dpo_model, ppo_model]
