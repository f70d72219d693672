"""data/recipes/sft.yaml, reward.yaml and dpo.yaml: what is trained on pairs, and what these trainings have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlaif_dagster.spec.base import NOT_MEANING, Spec


class Lora(Spec):
    """Low-rank adaptation (arXiv 2106.09685)."""

    r: int = Field(
        default=16, gt=0, description="rank; the larger, the more an adapter can change, and the more memory it takes"
    )
    alpha: int = Field(default=32, gt=0, description="what an adapter adds is multiplied by alpha / r")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of an adapter's inputs that training sets to 0; must be 0 in PPO"
    )
    target_modules: str | tuple[str, ...] = Field(
        default="all-linear",
        description="layers that get an adapter: `all-linear` for every linear one but the output layer, or a list of names such as "
        "`q_proj`; another text is a regular expression for full names",
    )


class Optimization(Spec):
    """What every training stage has."""

    lora: Lora = Field(
        default=Lora(), description="the adapter that is trained; the base model's own weights stay as they are"
    )
    learning_rate: float = Field(gt=0, description="of AdamW, at its highest")
    epochs: float = Field(
        default=1, gt=0, description="passes over the training examples; of the last, a part when it is a fraction"
    )
    batch_size: int = Field(default=8, gt=0, description="examples a micro-batch")
    gradient_accumulation: int = Field(default=1, gt=0, description="micro-batches an optimizer step")
    warmup_ratio: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of the optimizer steps in which the learning rate rises from 0; a training of one step has none",
    )
    lr_scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = Field(
        default="linear",
        description="of the learning rate after the warm-up: linear and cosine fall to 0; constant has no warm-up either",
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="norm of the whole gradient; a larger one is scaled down to it"
    )
    max_length: int = Field(
        default=512, gt=0, description="tokens of prompt and answer; longer examples are left out, and counted"
    )
    max_examples: int | None = Field(default=None, gt=0, description="the first N by content hash; all when absent")
    logging_steps: Annotated[int, NOT_MEANING] = Field(
        default=1, gt=0, description="optimizer steps between two points of the curves in training_metrics"
    )
    save_steps: Annotated[int, NOT_MEANING] = Field(
        default=20, gt=0, description="optimizer steps between checkpoints in work/"
    )
    gradient_checkpointing: Annotated[bool, NOT_MEANING] = Field(
        default=False, description="recompute activations in the backward pass: less memory, a fifth slower"
    )


class Sft(Optimization):
    """data/recipes/sft.yaml: supervised fine-tuning on the preferred answers, the control and the start of the others."""

    learning_rate: float = Field(default=2e-4, gt=0, description="of AdamW, at its highest")
    seed: int = Field(default=0, description="of the adapter's first weights, the order of examples, and dropout")


class Reward(Optimization):
    """data/recipes/reward.yaml: Bradley-Terry reward model."""

    learning_rate: float = Field(default=2e-4, gt=0, description="of AdamW, at its highest")
    seed: int = Field(
        default=0, description="of the first weights of adapter and head, the order of examples, and dropout"
    )
    center_rewards: float | None = Field(
        default=0.01, ge=0, description="coefficient of the squared sum of a pair's rewards"
    )
    min_accuracy: float = Field(
        default=0.5, ge=0, le=1, description="on held-out pairs, below which the reward model fails its check"
    )
    min_gain_over_length: float = Field(
        default=-0.1,
        ge=-1,
        le=1,
        description="accuracy above that of the better of `longer wins` and `shorter wins`, below which it fails; negative: how far "
        "it may be below, -1 never fails",
    )
    max_calibration_error: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="expected calibration error on held-out pairs, above which it fails; 1 never fails",
    )


class Dpo(Optimization):
    """data/recipes/dpo.yaml: direct preference optimization (arXiv 2305.18290)."""

    learning_rate: float = Field(default=2e-4, gt=0, description="of AdamW, at its highest")
    start: Literal["base", "sft"] = Field(
        default="sft",
        description="the policy before training, and the reference: the base model, or that with the SFT adapter",
    )
    beta: float = Field(
        default=0.1,
        gt=0,
        description="beta of arXiv 2305.18290, the scale of the implicit reward log(policy / reference); the larger, the closer "
        "the policy stays to the reference",
    )
    nll_weight: float = Field(
        default=0.0, ge=0, description="weight of the NLL of the chosen answer (arXiv 2404.19733)"
    )
    seeds: tuple[int, ...] = Field(
        default=(0,),
        min_length=1,
        description="one training each, and a policy each; numbers of an arm are over all of them",
    )
