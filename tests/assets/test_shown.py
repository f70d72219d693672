"""What a materialization shows: plots that are pictures, columns and where they came from."""

from __future__ import annotations

import base64

import dagster as dg
import pandas as pd

from assets.shown import column_lineage, columns_of, plots, preview, source_of
from assets.small_pictures import IN_PLACE


def curve(values: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"arm": "sft", "seed": 0, "step": step, "name": "loss", "value": value} for step, value in enumerate(values)]
    )


def picture(markdown: str) -> bytes:
    _, _, rest = markdown.partition("data:image/png;base64,")
    return base64.b64decode(rest.partition(")")[0])


def test_a_training_shows_each_curve_in_place_and_all_as_a_picture() -> None:
    shown = plots({"training_metrics": curve([4.0, 3.0, 2.0, 1.0])})
    assert list(shown) == ["SFT loss", "learning curves"]
    assert len(str(shown["SFT loss"].value)) < 1000
    assert picture(str(shown["learning curves"].value)).startswith(b"\x89PNG")


def test_benchmarks_are_shown_in_place_and_as_a_picture() -> None:
    row = {"task": "mmlu_mini", "metric": "acc", "value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "seed": 0}
    shown = plots({"benchmarks": pd.DataFrame([row, row | {"task": "hellaswag_mini"}])})
    assert list(shown) == ["levels", "levels, large"]
    assert picture(str(shown["levels, large"].value)).startswith(b"\x89PNG")
    assert plots({"prompts": pd.DataFrame()}) == {}


def test_columns_carry_their_meaning_and_their_origin() -> None:
    schema = {column.name: column for column in columns_of("preference_pairs").columns}
    assert schema["margin"].description == "2 p_chosen - 1"
    makers = {
        "judgments": ["judgments"],
        "completions": ["completions"],
        "revisions": ["revisions"],
        "prompts": ["prompts"],
    }
    found = column_lineage("preference_pairs", makers).deps_by_column
    assert found["margin"] == [dg.TableColumnDep(dg.AssetKey("judgments"), "p_a")]
    assert [dep.asset_key.to_user_string() for dep in found["chosen"]] == ["completions", "revisions"]
    assert {dep.column_name for dep in found["prompt_id"]} == {"prompt_id"}


def test_every_named_origin_is_a_column_that_exists() -> None:
    from assets.shown import MADE_FROM
    from rlaif_dagster.warehouse.schemas import TABLES

    for (table, column), sources in MADE_FROM.items():
        for name, source in [(table, column), *sources]:
            assert source in {one.name for one in TABLES[name].all_columns}, (name, source)


def test_a_preview_cuts_long_cells_and_escapes() -> None:
    text = preview(pd.DataFrame({"a": ["x" * 500, "a|b <b>"], "n": [0.123456, 2.0]}))
    assert "x" * 119 + "…" in text
    assert "a\\|b \\<b\\>" in text
    assert "0.1235" in text
    assert preview(pd.DataFrame({"a": []})) == "no rows"
    assert len(preview(pd.DataFrame({"text": ["x" * 500] * 9}))) <= IN_PLACE
    wide = preview(pd.DataFrame({f"column {n}": ["x" * 500] * 9 for n in range(40)}))
    assert wide.count("x" * 119 + "…") == 5 * 40  # too wide for its place in any way: whole, behind the page's button
    nulls = {"a": [0.5, float("nan")], "b": pd.array([1, None], dtype="Int64"), "c": ["x", None], "d": [True, None]}
    assert preview(pd.DataFrame(nulls)).splitlines()[2:] == ["| 0.5 | 1 | x | True |", "|  |  |  |  |"]


def test_a_source_names_file_and_line() -> None:
    [reference] = source_of(picture).code_references
    assert isinstance(reference, dg.LocalFileCodeReference)
    assert reference.label == "tests/assets/test_shown.py:picture"
