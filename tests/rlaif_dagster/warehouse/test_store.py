"""Parquet files that are the truth: what is written comes back, and the version is that of the content alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import NULL_PARTITION, Cell, Warehouse

PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["1", "2"],
        "split": ["train", "eval"],
        "category": ["factual", "adversarial"],
        "text": ["What — is it?", "Tell me"],
        "reference": [["a", "b"], None],
        "source": ["f", "f"],
    }
)
MODELS = pd.DataFrame(
    {
        "arm": ["dpo"],
        "seed": [0],
        "path": ["k"],
        "digest": ["d"],
        "start": ["base"],
        "recipe_hash": ["r"],
        "tokens": [7],
        "seconds": [1.5],
        "peak_memory_bytes": [10],
    }
)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path)


def test_what_is_written_comes_back_with_lists_and_nulls(warehouse: Warehouse) -> None:
    warehouse.write("prompts", PROMPTS)
    back = warehouse.read("prompts")
    assert back["reference"].tolist() == [["a", "b"], None]
    assert back.drop(columns="reference").equals(PROMPTS.drop(columns="reference"))


def test_keys_become_folders_and_columns(warehouse: Warehouse) -> None:
    warehouse.write("models", MODELS, Cell("m", "c"), "dpo")
    assert (warehouse.root / "models/model=m/constitution=c/dpo.parquet").exists()
    assert warehouse.read("models", Cell("m", "c"), "dpo")[["model", "constitution"]].values.tolist() == [["m", "c"]]


def test_a_row_without_a_constitution_has_hives_null_folder(warehouse: Warehouse) -> None:
    warehouse.write("models", MODELS, Cell("m"), "base")
    assert (warehouse.root / f"models/model=m/constitution={NULL_PARTITION}/base.parquet").exists()
    assert warehouse.read("models", Cell("m"), "base")["constitution"].isna().all()


def test_the_version_ignores_row_order_and_volatile_columns_and_nothing_else(warehouse: Warehouse) -> None:
    first = warehouse.write("prompts", PROMPTS)
    assert warehouse.write("prompts", PROMPTS.iloc[::-1]) == first == warehouse.version("prompts")
    assert warehouse.write("prompts", PROMPTS.assign(text=["What — is it", "Tell me"])) != first

    trained = warehouse.write("models", MODELS, Cell("m", "c"))
    assert warehouse.write("models", MODELS.assign(seconds=99.0), Cell("m", "c")) == trained
    assert warehouse.write("models", MODELS.assign(tokens=8), Cell("m", "c")) != trained


@pytest.mark.parametrize(
    "frame", [PROMPTS.drop(columns="text"), PROMPTS.assign(extra=1), PROMPTS.rename(columns={"text": "Text"})]
)
def test_the_columns_are_a_contract(warehouse: Warehouse, frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"table prompts: (missing|unknown)|extra"):
        warehouse.write("prompts", frame)
    assert not (warehouse.root / "prompts").exists()


def test_an_empty_table_keeps_its_columns_and_types(warehouse: Warehouse) -> None:
    version = warehouse.write("prompts", PROMPTS.iloc[:0])
    back = warehouse.read("prompts")
    assert list(back.columns) == [column.name for column in TABLES["prompts"].all_columns]
    assert len(back) == 0
    assert version == warehouse.version("prompts")


def test_a_part_that_was_never_made_says_how_to_make_it(warehouse: Warehouse) -> None:
    assert not warehouse.has("models", Cell("m", "c"), "dpo")
    with pytest.raises(UserError, match=r"models has no part 'dpo' for m/c; run `rlaif up`"):
        warehouse.read("models", Cell("m", "c"), "dpo")


def test_every_table_names_its_columns_once_and_explains_them() -> None:
    for table in TABLES.values():
        names = [column.name for column in table.all_columns]
        assert len(set(names)) == len(names), table.name
        assert table.comment
        assert all(column.comment for column in table.all_columns), table.name
