"""Recipes: every number of the study that a user may want to turn, one file a stage.

A recipe file holds the defaults and, under `models:`, what differs for a named model; the *effective* recipe of a model
is the merge of the two, and its hash is the data version, so a change for one model leaves the others alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from rlaif_dagster.spec.base import NOT_MEANING, Spec


class Sampling(Spec):
    """How answers are drawn."""

    max_new_tokens: int = Field(
        default=64, gt=0, description="tokens of an answer, its end token included; a longer one is cut there"
    )
    temperature: float = Field(default=1.0, ge=0, description="0 is greedy")
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="only the fewest likeliest tokens that together have this probability can be drawn (nucleus, arXiv "
        "1904.09751); 1 leaves all",
    )
    samples: int = Field(default=1, gt=0, description="answers a prompt")
    seed: int = Field(
        default=0,
        description="of the random draws; each answer has its own, from the seed, the prompt and the answer's number",
    )
    batch_size: int = Field(
        default=32,
        gt=0,
        description="answers drawn at once, and kept at once when a run is cut; a server draws as it likes",
    )


class Endpoint(Spec):
    """A server that speaks OpenAI's chat protocol (vLLM, llama.cpp, Ollama, a provider) and serves the base model."""

    api_base: Annotated[str, NOT_MEANING] = Field(
        pattern=r"^https?://", description="address, such as `http://gpu-box:8000/v1`"
    )
    model: str = Field(min_length=1, description="the base model, as the server calls it")
    api_key_env: Annotated[str | None, NOT_MEANING] = Field(
        default=None, description="environment variable holding the server's key; no key is sent when absent"
    )
    concurrency: Annotated[int, NOT_MEANING] = Field(default=16, gt=0, description="requests in flight")
    timeout: Annotated[float, NOT_MEANING] = Field(default=120, gt=0, description="seconds a request")
    retries: Annotated[int, NOT_MEANING] = Field(
        default=5, ge=0, description="on 429, 5xx, timeouts and lost connections, with backoff"
    )


class Vllm(Spec):
    """How vLLM is run and asked. Only what does not change its answers can be set here."""

    tensor_parallel_size: Annotated[int, NOT_MEANING] = Field(
        default=1, gt=0, description="GPUs that hold the model together"
    )
    gpu_memory_utilization: Annotated[float | None, NOT_MEANING] = Field(
        default=None, gt=0, le=1, description="share of a GPU's memory that it takes; vLLM's own default when absent"
    )
    max_model_len: Annotated[int | None, NOT_MEANING] = Field(
        default=None,
        gt=0,
        description="tokens of a prompt and its answer that there must be room for; the model's own when absent",
    )
    concurrency: Annotated[int, NOT_MEANING] = Field(default=64, gt=0, description="requests in flight")
    timeout: Annotated[float, NOT_MEANING] = Field(default=600, gt=0, description="seconds a request")
    retries: Annotated[int, NOT_MEANING] = Field(default=2, ge=0, description="on 5xx, timeouts and lost connections")
    start_timeout: Annotated[float, NOT_MEANING] = Field(
        default=1800, gt=0, description="seconds until it must have loaded the model"
    )


class OwnVllm(Spec):
    """A program on this machine: each step that samples starts vLLM and ends it. `RLAIF_VLLM` names the program."""

    vllm: Vllm = Field(description="`{}` for its defaults")


def _kind_of_backend(backend: Any) -> str | None:
    """The tag of what a field `backend` describes; None for what describes none."""
    if backend == "transformers":
        return "(weights)"
    if isinstance(backend, OwnVllm) or (isinstance(backend, dict) and "vllm" in backend):
        return "(vLLM)"
    return "(server)" if isinstance(backend, Endpoint | dict) else None


Backend = Annotated[
    Annotated[Literal["transformers"], Tag("(weights)")]
    | Annotated[OwnVllm, Tag("(vLLM)")]
    | Annotated[Endpoint, Tag("(server)")],
    Discriminator(
        _kind_of_backend,
        custom_error_type="backend",
        custom_error_message="allowed: transformers, vllm, or a mapping with `vllm` or with `api_base` and `model`",
    ),
]


class Generation(Spec):
    """data/recipes/generation.yaml: candidates for the preferences."""

    backend: Backend = Field(
        default="transformers",
        description="what samples: this process, vLLM (`vllm` alone, or with the fields below), or a server",
    )

    completions: Sampling = Field(default=Sampling(), description="the model's own answers to the training prompts")
    revisions: Sampling = Field(
        default=Sampling(samples=2, temperature=0.8), description="its answers to the same prompts under the principles"
    )
    exemplars: int = Field(default=3, ge=0, description="of the constitution, shown in context when revising")

    @field_validator("backend", mode="before")
    @classmethod
    def _by_name(cls, backend: Any) -> Any:
        return {"vllm": {}} if backend == "vllm" else backend

    def meaning(self) -> dict[str, Any]:
        """Without the backend where it is transformers: what a recipe meant before there was a choice."""
        meaning = super().meaning()
        if self.backend == "transformers":
            del meaning["backend"]
        return meaning

    def served_by(self) -> list[dict[str, Any]]:
        """What a server adds to the identity of what it samples; nothing for transformers."""
        return [] if self.backend == "transformers" else [self.backend.meaning()]


class PairBuilding(Spec):
    """From judgments to pairs that train."""

    min_margin: float = Field(default=0.1, ge=0, le=1, description="|2 p - 1| below which a pair is a tie")
    ties: Literal["drop", "keep"] = Field(default="drop", description="keep: a tie is a pair with p_chosen 0.5")
    pairs_per_prompt: Literal["best_worst", "all"] = Field(
        default="best_worst",
        description="best_worst: the pair whose answers differ most in their mean probability of winning; all: every judged pair",
    )
    require_order_consistent: bool = Field(default=False, description="drop pairs whose verdict flips with the order")
    held_out_share: float = Field(default=0.15, gt=0, lt=1, description="of prompts, by hash, kept for validation")


class Trust(Spec):
    """What the judge must reach on every file of labels that speaks for a constitution before anything is trained on its
    verdicts there; what is absent is not asked for."""

    min_accuracy: float | None = Field(default=None, ge=0, le=1, description="agreement with the labels")
    min_kappa: float | None = Field(default=None, ge=-1, le=1, description="Cohen's kappa")
    beat_longest: bool = Field(
        default=False, description="the accuracy's interval must lie above always preferring the longer answer"
    )
    min_order_consistency: float | None = Field(
        default=None, ge=0, le=1, description="pairs with the same preference in both orders"
    )
    max_position_bias: float | None = Field(
        default=None, ge=0, le=0.5, description="distance of the first place's share of verdicts from one half"
    )

    @property
    def asked(self) -> dict[str, float | bool]:
        """The thresholds that are set."""
        return {name: value for name, value in self.model_dump().items() if value is not None and value is not False}


class Judging(Spec):
    """data/recipes/judging.yaml"""

    judge: str = Field(description="name in data/judges")
    mode: Literal["per_principle", "joint", "sampled"] = Field(
        default="per_principle",
        description="a request a principle, one for all principles, or one a pair for a principle drawn by weight",
    )
    orders: Literal["both", "ab"] = Field(
        default="both", description="in which order(s) a comparing judge sees two answers"
    )
    tie_margin: float = Field(default=0.0, ge=0, le=1, description="|2 p - 1| up to which a verdict counts as a tie")
    max_failed_share: float = Field(
        default=0.2, ge=0, le=1, description="of refused, unparseable and error verdicts, above which judging fails"
    )
    budget_usd: Annotated[float | None, NOT_MEANING] = Field(
        default=None,
        ge=0,
        description="a hard stop for each step that judges; `rlaif up --budget` is one for all steps together",
    )
    trust: Trust = Field(
        default=Trust(), description="what the judge must reach on data/labels before anything is trained"
    )
    pairs: PairBuilding = Field(default=PairBuilding(), description="how verdicts become the pairs that train")


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


class Responses(Spec):
    """How the arms answer the eval and qualitative prompts."""

    max_new_tokens: int = Field(
        default=64, gt=0, description="tokens of an answer, its end token included; a longer one is cut there"
    )
    temperature: float = Field(default=1.0, gt=0, description="of the sampled decoding")
    decodings: tuple[Literal["greedy", "sampled"], ...] = Field(
        default=("greedy", "sampled"),
        description="an answer a prompt by each; head_to_head and qualitative take the greedy ones, adherence both",
    )
    seed: int = Field(default=0, description="of the sampled decoding; all arms answer a prompt with the same draws")
    batch_size: int = Field(
        default=32, gt=0, description="answers a chunk, which is sampled together and kept as a whole"
    )


class Benchmark(Spec):
    """One task of the evaluation."""

    task: str = Field(description="a task of this project (…_mini) or one of lm-eval's own, such as `truthfulqa_mc2`")
    fewshot: int = Field(
        default=0,
        ge=0,
        description="solved examples in context before each item; must be 0 for a task that is defined without",
    )
    limit: int | None = Field(
        default=None,
        gt=0,
        description="the first N items, of each task where the name is one of lm-eval's groups; all when absent",
    )
    mirror: str | None = Field(
        default=None,
        description="for a task that is not …_mini: a folder (relative to data/benchmarks) with its data, as its authors "
        "publish it or as on the hub; the hub when absent",
    )
    judge: str | None = Field(
        default=None,
        description="name in data/judges: grades the answers of pku_saferlhf_generation and its …_mini for harm; needed there",
    )


class Benchmarks(Spec):
    """data/recipes/benchmarks.yaml"""

    tasks: tuple[Benchmark, ...] = Field(min_length=1, description="what every arm is measured by")
    batch_size: Annotated[int, NOT_MEANING] = Field(
        default=16, gt=0, description="answers written together, in tasks that ask for some; memory, not result"
    )
    seed: int = Field(
        default=0,
        description="of the choice of examples in context (…_mini tasks take the first), of the order of answers, of sampling",
    )
    max_contaminated_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="of a task's items that share a long word sequence with what was trained on, above "
        "which the check `contamination` warns",
    )
    responses: Responses = Field(default=Responses(), description="how the arms answer the study's own prompts")
