"""data/recipes/ppo.yaml: proximal policy optimization."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlaif_dagster.spec.base import NOT_MEANING, Spec
from rlaif_dagster.spec.recipes.training import Lora


class RewardSources(Spec):
    """What PPO's answers are paid by. With both, each score is centred and scaled by a first batch of answers before it is
    weighted."""

    model: float = Field(default=1.0, ge=0, description="weight of the reward model's score")
    judge: float = Field(
        default=0.0,
        ge=0,
        description="weight of the judge's own score: by how much it prefers an answer to the start policy's",
    )

    @model_validator(mode="after")
    def _some(self) -> RewardSources:
        if not (self.model or self.judge):
            raise ValueError("give model, judge or both a weight above 0")
        return self


class Ppo(Spec):
    """data/recipes/ppo.yaml: proximal policy optimization (arXiv 1707.06347) on a reward model, a judge or both."""

    start: Literal["base", "sft"] = Field(
        default="sft",
        description="the policy before training, and the reference: the base model, or that with the SFT adapter",
    )
    seeds: tuple[int, ...] = Field(
        default=(0,),
        min_length=1,
        description="one training each, and a policy each; numbers of an arm are over all of them",
    )
    reward: RewardSources = Field(
        default=RewardSources(), description="what answers are paid by: reward model, judge or both"
    )
    separate: bool = Field(
        default=False,
        description="train every linear layer in full, with policy, reference and reward model held apart: small float32 models",
    )
    value: Literal["policy", "own"] = Field(
        default="policy",
        description="the value head reads the policy's states, or those of an adapter of its own that starts as the reward model, where there is one",
    )
    lora: Lora = Field(default=Lora(), description="the policy's adapter; not used with `separate: true`")
    updates: int = Field(default=12, gt=0, description="rollout batches")
    rollout_batch: int = Field(default=16, gt=0, description="episodes an update")
    minibatches: int = Field(default=2, gt=0, description="optimizer steps an epoch over the rollout batch")
    micro_batch: Annotated[int, NOT_MEANING] = Field(
        default=4, gt=0, description="episodes a pass with gradients; memory, not result"
    )
    gradient_checkpointing: Annotated[bool, NOT_MEANING] = Field(
        default=False, description="recompute activations in the backward pass: less memory, the update a third slower"
    )
    epochs: int = Field(default=2, gt=0, description="passes over a rollout batch")
    learning_rate: float = Field(
        default=2e-4,
        gt=0,
        description="of Adam, at its highest; for the policy, and for an adapter of the value function's own",
    )
    value_learning_rate: float = Field(default=1e-3, gt=0, description="of Adam, at its highest; for the value head")
    warmup_updates: int = Field(
        default=1, ge=0, description="updates before the first at the full learning rates, in which they rise linearly"
    )
    lr_scheduler: Literal["constant", "linear"] = Field(
        default="linear", description="after the warm-up; linear falls towards zero"
    )
    max_update_kl: float | None = Field(
        default=None,
        gt=0,
        description="nats a token between old and new policy, above which an update's rest is left out",
    )
    max_grad_norm: float = Field(
        default=1.0,
        gt=0,
        description="norm of the gradient of policy and value function together; a larger one is scaled down to it",
    )
    max_new_tokens: int = Field(
        default=64, gt=0, description="tokens of an answer, its end token included; a longer one is cut there"
    )
    max_prompt_tokens: int = Field(default=256, gt=0, description="longer prompts are left out")
    temperature: float = Field(
        default=1.0, gt=0, description="at which answers are drawn, and at which ratio, KL and entropy are taken"
    )
    gamma: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="discount a token (gamma of arXiv 1506.02438); below 1 the score at an answer's end counts less for its first "
        "tokens",
    )
    gae_lambda: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="lambda of generalized advantage estimation (arXiv 1506.02438); the larger, the less the value function biases "
        "advantages, and the more they vary",
    )
    clip: float = Field(default=0.2, gt=0, description="of the probability ratio")
    value_clip: float = Field(
        default=0.2,
        gt=0,
        description="how far an update moves a value before going further stops paying (arXiv 2403.17031), in the units of the "
        "rewards",
    )
    value_coefficient: float = Field(
        default=0.1, ge=0, description="weight of the value loss, half a squared error, beside the policy's"
    )
    entropy_coefficient: float = Field(
        default=0.0, ge=0, description="of the bonus a nat of entropy a token, against collapse"
    )
    kl_coefficient: float = Field(
        default=0.05,
        ge=0,
        description="taken off a token's reward for each nat of KL to the start; the larger, the closer the policy stays to it; "
        "with kl_target, the first value",
    )
    kl_estimator: Literal["k1", "k3"] = Field(
        default="k1",
        description="of the KL a token, with r = p_start / p_policy: k1 = -log r; k3 = r - 1 - log r, never negative, less noisy "
        "near the start (Schulman, Approximating KL divergence, 2020)",
    )
    kl_target: float | None = Field(
        default=None, gt=0, description="nats a response; steers the coefficient, which is fixed when absent"
    )
    max_kl: float = Field(
        default=30.0, gt=0, description="nats a response, mean over a batch, above which training stops"
    )
    missing_eos_penalty: float = Field(
        default=1.0, ge=0, description="taken off the score of an answer that never ends"
    )
    whiten_advantages: bool = Field(
        default=True, description="scale advantages to mean 0 and variance 1 over the tokens of a rollout batch"
    )
    normalize_reward: bool = Field(
        default=True, description="subtract the mean of the first rollout's scores and divide by their deviation"
    )
    held_out_prompts: int = Field(
        default=16, gt=0, description="training prompts kept for choosing the checkpoint (at most a quarter of them)"
    )
    evaluate_updates: int = Field(
        default=4, gt=0, description="updates between greedy evaluations on the held-out prompts"
    )
    min_entropy: float = Field(
        default=0.05, ge=0, description="nats a token, below which identical answers count as a collapse"
    )
    min_distinct: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of different held-out answers, below which a policy without entropy has collapsed",
    )
    min_eos_share: float = Field(
        default=0.5, ge=0, le=1, description="of the start's rate of ended answers, below which a policy has collapsed"
    )
    min_length_share: float = Field(
        default=0.25, ge=0, description="of the start's mean answer length, below which a policy has collapsed"
    )
    max_length_share: float = Field(
        default=4.0, gt=0, description="of the start's mean answer length, above which a policy has collapsed"
    )
    max_repetition: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of an answer's 3-token runs that it repeats, above which it has collapsed; the start's own where that is more",
    )
    save_updates: Annotated[int, NOT_MEANING] = Field(
        default=2, gt=0, description="updates between checkpoints in work/"
    )

    @model_validator(mode="after")
    def _divides(self) -> Ppo:
        if self.rollout_batch % self.minibatches:
            raise ValueError(f"minibatches {self.minibatches} must divide rollout_batch {self.rollout_batch}")
        return self

    @model_validator(mode="after")
    def _no_dropout(self) -> Ppo:
        if self.lora.dropout:
            raise ValueError(
                f"lora.dropout {self.lora.dropout} must be 0: with dropout the ratio of new to old policy is noise"
            )
        return self
