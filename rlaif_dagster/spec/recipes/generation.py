"""data/recipes/generation.yaml: how candidate answers are drawn, and by what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

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
