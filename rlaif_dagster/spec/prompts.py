"""Where prompts come from: files beside the study, a user's own JSONL, CSV or Parquet, or a dataset on the hub."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlaif_dagster.spec.base import NOT_MEANING, Spec

Split = Literal["train", "eval", "qualitative"]
Category = Literal["factual", "thought_experiment", "adversarial", "instruction"]


class HubDataset(Spec):
    """A dataset on the Hugging Face hub at a pinned revision."""

    dataset: str
    config: str | None = None
    split: str = "train"
    revision: str = "main"


class PromptSource(Spec):
    """One source. Column names say where each field is; a constant serves where there is no column."""

    file: str | None = Field(default=None, description="JSONL, CSV or Parquet, relative to data/prompts")
    hub: HubDataset | None = None
    text: str = Field(default="text", description="column of the prompt")
    split: str | None = Field(default="split", description="column of the split; absent when `constant_split` is given")
    constant_split: Split | None = None
    category: str | None = Field(default="category", description="column of the category")
    constant_category: Category | None = None
    reference: str | None = Field(
        default="reference", description="column of the accepted answers; may be missing in the data"
    )
    limit: int | None = Field(default=None, gt=0, description="the first N rows")

    @model_validator(mode="after")
    def _one_source(self) -> PromptSource:
        if (self.file is None) == (self.hub is None):
            raise ValueError("give exactly one of file, hub")
        return self


class PromptSources(Spec):
    """data/prompts/sources.yaml"""

    description: Annotated[str, NOT_MEANING] = ""
    sources: tuple[PromptSource, ...] = Field(min_length=1)


class PromptRow(Spec):
    """One prompt, checked."""

    text: str = Field(min_length=1)
    split: Split
    category: Category
    reference: tuple[str, ...] | None = None
