"""How much memory each step takes at its peak, computed from a model's shape and a recipe before anything is loaded.

Written out for the Llama family (gated MLP, grouped-query attention, RMS norms; Mistral, Qwen and SmolLM are alike), of

    h  hidden size     i  intermediate size     q  heads * head size     k  key heads * head size     V  vocabulary
    L  layers          r  rank of the adapters  n  tokens of a pass      a  answer tokens among them

Every part of a plan carries its formula. The forms come from what PyTorch's autograd keeps of each operation of transformers'
Llama with peft's LoRA on every linear layer (counted by saved-tensor hooks: exact for float32), from PyTorch's Adam, from
TRL's chunked log-probabilities, from this project's PPO, and from bitsandbytes' NF4 (arXiv 2305.14314). What a formula cannot
say is measured, on a CPU: what the libraries take by themselves, and how much glibc's heap grows beyond what lives in it. Plans
for a CPU are held against measured peaks (bench/memory.py). Those for a GPU rest on the same forms with autocast's casts counted
in, and are not measured.

No heavy library is imported: `rlaif plan` and `rlaif doctor` call this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rlaif_dagster.spec.recipes import Dpo, Lora, Ppo, Reward, Sft

Device = Literal["cpu", "cuda"]
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MIB = 2**20

RUNTIME = {"cpu": 410 * MIB, "cuda": 1000 * MIB}  # Python and torch on a CPU; on a GPU its context and libraries
TRAINING_RUNTIME = {"cpu": 120 * MIB, "cuda": 0}  # what TRL, peft and the trainer import beyond that
TOKENIZER_ENTRY = 1000  # bytes of main memory a token of the vocabulary, merges included
HEAP = {"cpu": 1.5, "cuda": 1.1}  # what an allocator holds over what lives: freed blocks that nothing fits into again
INFERENCE_HEAP = {"cpu": 1.1, "cuda": 1.1}
TILE = 32768  # logits of the vocabulary that TRL's trainers hold at once a token
TILE_COPIES = {"cpu": 5, "cuda": 1}  # beside the tile its exponentials, weights and gradients; one kernel on a GPU
CHUNK_LOGITS = 1 << 22  # of this project's own log-probabilities (training/ppo/logprobs.py)
NF4_BITS = 4.127  # a weight: 4 bits, and a doubly quantized scale for every 64 (arXiv 2305.14314, section 3)
SCORED_ROW = {"cpu": 512, "cuda": 2048}  # tokens of a pass of the benchmarks (language/scoring.py)


@dataclass(frozen=True)
class Shape:
    """The sizes in a model's config.json that its memory follows from."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int
    tied: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """From a config.json, by its keys. Raises KeyError for an architecture that lacks one of them."""
        heads = int(config["num_attention_heads"])
        return cls(
            hidden=int(config["hidden_size"]),
            intermediate=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            key_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )

    @property
    def q(self) -> int:
        return self.heads * self.head_size

    @property
    def k(self) -> int:
        return self.key_heads * self.head_size

    @property
    def linear(self) -> int:
        """Weights of the linear layers that adapters sit on (and that 4 bits are for)."""
        return self.layers * self.hidden * (2 * self.q + 2 * self.k + 3 * self.intermediate)

    @property
    def other(self) -> int:
        """Embeddings, output layer and norms."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        return self.linear + self.other

    def adapter(self, lora: Lora) -> int:
        """Weights of a LoRA on every linear layer: r (inputs + outputs) each."""
        h, i, q, k = self.hidden, self.intermediate, self.q, self.k
        return lora.r * self.layers * (2 * (h + q) + 2 * (h + k) + 3 * (h + i))


@dataclass(frozen=True)
class Setting:
    """Where a step runs and in which type the base weights lie."""

    device: Device = "cpu"
    dtype: str = "float32"
    four_bit: bool = False

    @property
    def width(self) -> int:
        """Bytes of a number that flows through the model."""
        return BYTES[self.dtype]


@dataclass(frozen=True)
class Part:
    """A piece of a peak, in bytes, and how it is computed."""

    name: str
    bytes: int
    formula: str


@dataclass(frozen=True)
class Need:
    """A step's peak: piece by piece of one process, in as many as share the memory."""

    step: str
    parts: tuple[Part, ...]
    copies: int = 1

    @property
    def bytes(self) -> int:
        return self.copies * sum(part.bytes for part in self.parts)


def sampling(shape: Shape, setting: Setting, *, batch: int, prompt: int, answer: int) -> Need:
    """Answers to `batch` prompts at once (language/sampling.py)."""
    cache = batch * (prompt + answer) * _cache_token(shape, setting)
    tokens = batch * prompt
    live = cache + max(_one_layer(shape, setting, tokens), 6 * batch * shape.vocabulary * 4)
    return Need(
        "sampling",
        (
            *_base(shape, setting, training=False),
            _scaled("keys and values", cache, "batch (prompt + answer) 2 L k", INFERENCE_HEAP[setting.device]),
            _scaled(
                "working memory", live - cache, "max(a layer on the prompts, six times batch V)",
                INFERENCE_HEAP[setting.device],
            ),
        ),
    )  # fmt: skip


def benchmarks(shape: Shape, setting: Setting, *, longest: int) -> Need:
    """Log-likelihoods of many continuations (language/scoring.py), in passes of full rows."""
    row = SCORED_ROW[setting.device]
    cache = (row + longest) * _cache_token(shape, setting)
    logits = row * shape.vocabulary * (setting.width + 4)
    working = _one_layer(shape, setting, row) + row * (row + longest) * (setting.width + 1)
    factor = INFERENCE_HEAP[setting.device]
    return Need(
        "benchmarks",
        (
            *_base(shape, setting, training=False),
            _scaled("keys and values", cache, "(row + longest) 2 L k", factor),
            _scaled("logits", logits, "row V, and in float32", factor),
            _scaled("working memory", working, "a layer on the row, and its mask", factor),
        ),
    )


def sft(shape: Shape, setting: Setting, recipe: Sft, *, prompt: int, answer: int) -> Need:
    """Supervised fine-tuning: a micro-batch of sequences."""
    return Need("sft", _trainer(shape, setting, recipe, sequences=recipe.batch_size, prompt=prompt, answer=answer))


def reward(shape: Shape, setting: Setting, recipe: Reward, *, prompt: int, answer: int) -> Need:
    """The reward model: both sequences of a micro-batch of pairs; it has a head of one column and no logits."""
    sequences = 2 * recipe.batch_size
    return Need(
        "reward", _trainer(shape, setting, recipe, sequences=sequences, prompt=prompt, answer=answer, logits=False)
    )


def dpo(shape: Shape, setting: Setting, recipe: Dpo, *, prompt: int, answer: int) -> Need:
    """DPO: both sequences of a micro-batch of pairs; the reference is computed before, by the same weights."""
    started = recipe.start == "sft"
    parts = _trainer(shape, setting, recipe, sequences=2 * recipe.batch_size, prompt=prompt, answer=answer)
    return Need("dpo", (*parts, *([_start(shape, setting, recipe.lora)] if started else [])))


def ppo(shape: Shape, setting: Setting, recipe: Ppo, *, prompt: int, answer: int) -> Need:
    """PPO on one backbone (training/ppo): it samples, scores and updates one after the other, in the same memory."""
    cpu = setting.device == "cpu"
    length, batch, adapter = prompt + answer, recipe.rollout_batch, shape.adapter(recipe.lora)
    trained = adapter * (2 if recipe.value == "own" else 1)
    cache = batch * length * _cache_token(shape, setting)
    sampled = cache + max(_one_layer(shape, setting, batch * prompt), 6 * batch * shape.vocabulary * 4)
    scored = _one_layer(shape, setting, batch * length) + 4 * CHUNK_LOGITS * 4
    update = _kept(
        shape, setting, recipe.lora, recipe.micro_batch * length, recomputed=recipe.gradient_checkpointing, packed=True,
        autocast=False,
    ) + _one_layer(shape, setting, recipe.micro_batch * length) + 4 * CHUNK_LOGITS * 4  # fmt: skip
    factor = HEAP[setting.device]
    states = batch * answer * shape.hidden * setting.width
    parts = [
        *_base(shape, setting, training=True),
        Part("adapters", trained * 16 + adapter * 4, "16 r(in + out) trained: weight, gradient, Adam's two; 4 the reward's"),
        *([Part("kept policies", trained * 12, "4 r(in + out): the last good, the best, and the one being saved")] if cpu else []),
        _scaled("rollout", states, "batch a h", factor),
        _scaled(
            "largest phase", max(sampled, scored, update),
            "of sampling (keys and values), scoring (a layer on the rollout), update (what a micro-batch keeps for its gradient)",
            factor,
        ),
    ]  # fmt: skip
    if recipe.separate:
        trunks = 2 + (recipe.reward.model > 0) + (recipe.value == "own")
        whole = (trunks - 1) * shape.linear * 4 + (1 + (recipe.value == "own")) * shape.linear * 12
        parts.append(Part("separate models", whole, "4 (trunks - 1), and 12 for what is trained, a weight"))
    if recipe.start == "sft":
        parts.append(_start(shape, setting, recipe.lora))
    return Need("ppo", tuple(parts))


def weights(shape: Shape, setting: Setting) -> int:
    """Bytes of the base weights."""
    if setting.four_bit:
        return int(shape.linear * NF4_BITS / 8) + shape.other * setting.width
    return shape.parameters * setting.width


def _base(shape: Shape, setting: Setting, *, training: bool) -> tuple[Part, ...]:
    runtime = RUNTIME[setting.device] + (TRAINING_RUNTIME[setting.device] if training else 0)
    tokenizer = shape.vocabulary * TOKENIZER_ENTRY if setting.device == "cpu" else 0
    form = (
        "4.127 bits a weight of a linear layer, the rest in its type"
        if setting.four_bit
        else "parameters, in their type"
    )
    parts = [Part("runtime", runtime + tokenizer, "measured"), Part("weights", weights(shape, setting), form)]
    if setting.four_bit:
        largest = shape.hidden * max(shape.intermediate, shape.q) * setting.width
        parts.append(Part("dequantized layer", largest, "h max(i, q): a product needs its weights in 16 bits"))
    return tuple(parts)


def _start(shape: Shape, setting: Setting, lora: Lora) -> Part:
    return Part("start adapter", shape.adapter(lora) * 4, "4 r(in + out)")


def _trainer(
    shape: Shape, setting: Setting, recipe: Sft | Reward | Dpo, *, sequences: int, prompt: int, answer: int,
    logits: bool = True,
) -> tuple[Part, ...]:  # fmt: skip
    length = min(recipe.max_length, prompt + answer)
    tokens, factor = sequences * length, HEAP[setting.device]
    autocast = setting.device == "cuda" and setting.width == 2
    kept = _kept(shape, setting, recipe.lora, tokens, recomputed=recipe.gradient_checkpointing, autocast=autocast)
    tile = sequences * min(answer, length) * min(TILE, shape.vocabulary) * (2 if autocast else 4)
    if not recipe.gradient_checkpointing:
        kept += sequences * length * length * shape.layers * 4  # the mask of a padded batch, a layer
    elif setting.device == "cpu":  # recomputing is done by autograd's thread, in a heap of its own
        kept += _kept_a_token(shape, setting, recipe.lora, packed=False, autocast=autocast) * tokens
        tile *= 2
    form = "n h L, and one layer in full" if recipe.gradient_checkpointing else "n L (4h + 4q + 4i + 7r + heads)"
    parts = [
        *_base(shape, setting, training=True),
        Part("adapter", shape.adapter(recipe.lora) * 16, "16 r(in + out): weight, gradient, Adam's two"),
        _scaled("kept for the gradient", kept, form, factor),
        _scaled("working memory", _one_layer(shape, setting, tokens), "n (6i + 4h)", factor),
    ]
    if logits:
        parts.append(
            _scaled("logits", tile * TILE_COPIES[setting.device], "a min(V, 32768), and as many temporaries", factor)
        )
    return tuple(parts)


def _kept(
    shape: Shape, setting: Setting, lora: Lora, tokens: int, *, recomputed: bool, autocast: bool, packed: bool = False
) -> int:
    """Bytes that a forward pass over `tokens` keeps for the backward pass."""
    layer = tokens * _kept_a_token(shape, setting, lora, packed=packed, autocast=autocast)
    if recomputed:
        return tokens * shape.hidden * shape.layers * setting.width + layer
    return layer * shape.layers


def _kept_a_token(shape: Shape, setting: Setting, lora: Lora, *, packed: bool, autocast: bool) -> int:
    """Bytes a token and layer that autograd keeps.

    float32: what the two norms read and what they give (4h), queries, keys and values, the attention's result and its
    normalizer, gate, its activation, up and their product (4i), and what seven adapters pass from A to B (7r). Padded batches
    repeat keys and values for every head; PPO's rows gather theirs, and keep the result twice.

    16 bits: norms keep what they read in float32 (8h bytes); every adapter casts its input by itself (5h + q + i), to 16 bits
    under autocast and to float32 without.
    """
    h, i, q, k, r = shape.hidden, shape.intermediate, shape.q, shape.k, lora.r
    attention = 3 * q + 2 * k if packed else 4 * q
    if setting.width == 4:
        return 4 * (4 * h + attention + 4 * i + 7 * r + shape.heads)
    cast = 2 if autocast else 4
    return 8 * h + cast * (5 * h + q + i + 7 * r) + 2 * (attention + 3 * i) + 4 * shape.heads


def _cache_token(shape: Shape, setting: Setting) -> int:
    """Bytes of a token's keys and values in all layers."""
    return 2 * shape.layers * shape.k * setting.width


def _one_layer(shape: Shape, setting: Setting, tokens: int) -> int:
    """Bytes that one layer holds for a moment: results of the products with and without adapter, and their gradients."""
    return tokens * (6 * shape.intermediate + 4 * shape.hidden) * setting.width


def _scaled(name: str, live: int, formula: str, factor: float) -> Part:
    return Part(name, int(live * factor), f"{factor:g} ({formula}), in bytes of its type")
