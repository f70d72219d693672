"""Where prompts come from: files beside the study, a user's own JSONL, CSV or Parquet, or a dataset on the hub."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlaif_dagster.hub_names import HUB_NAME
from rlaif_dagster.spec.base import NOT_MEANING, Spec

Split = Literal["train", "eval", "qualitative"]
Category = Literal["factual", "thought_experiment", "adversarial", "instruction"]


class HubDataset(Spec):
    """A dataset on the Hugging Face hub at a revision."""

    dataset: str = Field(pattern=HUB_NAME, description="owner and name on the hub, such as `owner/name`")
    config: str | None = Field(
        default=None, description="configuration (subset) of the dataset; its own default when absent"
    )
    split: str = Field(
        default="train", description="the dataset's split whose rows are read, whatever they are used for here"
    )
    revision: str = Field(default="main", description="commit, tag or branch; a commit keeps the study reproducible")


class PromptSource(Spec):
    """One source. Column names say where each field is; a constant that is given wins over a column."""

    file: str | None = Field(default=None, description="JSONL, CSV or Parquet, relative to data/prompts")
    hub: HubDataset | None = Field(default=None, description="a dataset in place of a file")
    text: str = Field(default="text", description="column of the prompt")
    split: str | None = Field(default="split", description="column of the split; absent when `constant_split` is given")
    constant_split: Split | None = Field(default=None, description="split of every row, in place of the column")
    category: str | None = Field(default="category", description="column of the category")
    constant_category: Category | None = Field(
        default=None, description="category of every row, in place of the column"
    )
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

    description: Annotated[str, NOT_MEANING] = Field(default="", description="for people; changes no result")
    sources: tuple[PromptSource, ...] = Field(
        min_length=1, description="read one after the other; no prompt may come twice"
    )


class PromptRow(Spec):
    """One prompt, checked."""

    text: str = Field(min_length=1, description="the prompt; may come only once, letter case and white space aside")
    split: Split = Field(
        description="train: for candidates and PPO; eval: arms meet on it; qualitative: graded one by one, by judge and people"
    )
    category: Category = Field(description="the report takes grades of the qualitative prompts apart by it")
    reference: tuple[str, ...] | None = Field(
        default=None,
        description="accepted answers, or `refuse` where a refusal is expected; absent where the question is open",
    )
