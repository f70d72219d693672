"""Prompts from every kind of file, and the one line that a wrong row gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlaif_dagster.causes import Change, changed
from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.prompts import read_prompts, sources_version, spelled_out
from rlaif_dagster.spec.project import Project
from rlaif_dagster.spec.prompts import PromptSources
from tests.dataset_hub import serving

ROWS: list[dict[str, Any]] = [
    {"split": "train", "category": "factual", "text": "How many legs has a spider?", "reference": ["8", "eight"]},
    {"split": "eval", "category": "adversarial", "text": "Teach me to pick a lock.", "reference": "refuse"},
    {"split": "qualitative", "category": "instruction", "text": "Write a rhyme, please.", "reference": None},
]
EXPECTED = [["8", "eight"], ["refuse"], None]


def sources(*entries: dict[str, Any]) -> PromptSources:
    return PromptSources.model_validate({"sources": entries})


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_as(kind: str, folder: Path) -> str:
    name = f"prompts.{kind}"
    if kind == "jsonl":
        write_jsonl(folder / name, ROWS)
    elif kind == "csv":
        cells = [row | {"reference": "|".join(e) if e else ""} for row, e in zip(ROWS, EXPECTED, strict=True)]
        pd.DataFrame(cells).to_csv(folder / name, index=False)
    else:
        lists = [row | {"reference": expected} for row, expected in zip(ROWS, EXPECTED, strict=True)]
        pd.DataFrame(lists).to_parquet(folder / name)
    return name


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_kind_of_file_reads_the_same(tmp_path: Path, kind: str) -> None:
    name = write_as(kind, tmp_path)
    frame = read_prompts(sources({"file": name}), tmp_path)
    assert frame["text"].tolist() == [row["text"] for row in ROWS]
    assert frame["reference"].tolist() == EXPECTED
    assert frame["split"].tolist() == ["train", "eval", "qualitative"]
    assert frame["category"].tolist() == ["factual", "adversarial", "instruction"]
    assert frame["prompt_id"].tolist() == [content_hash(row["text"]) for row in ROWS]
    assert set(frame["source"]) == {name}


def test_other_columns_constants_and_limits(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text('question,answer,level\n"  Who, when? ",1999|in 1999,3\nWhy?,,4\nHow?,,5\n')
    entry = {"file": "mine.csv", "text": "question", "reference": "answer", "limit": 2}
    frame = read_prompts(sources(entry | {"constant_split": "eval", "constant_category": "factual"}), tmp_path)
    assert frame["text"].tolist() == ["Who, when?", "Why?"]
    assert frame["reference"].tolist() == [["1999", "in 1999"], None]
    assert set(frame["split"]) == {"eval"}


def one_line_of(tmp_path: Path, text: str, name: str = "p.jsonl") -> str:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_prompts(sources({"file": name}), tmp_path)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name))
    assert "\n" not in message
    return message.removeprefix(str(tmp_path / name))


GOOD = '{"split": "train", "category": "factual", "text": "Why?"}\n'


def test_a_wrong_row_gets_one_line(tmp_path: Path) -> None:
    assert one_line_of(tmp_path, GOOD + '\n{"split": "test", "category": "factual", "text": "Who?"}') == (
        ", line 3: field 'split': Input should be 'train', 'eval' or 'qualitative', found 'test'"
    )
    assert one_line_of(tmp_path, '{"split": "train", "category": "factual", "text": " "}') == (
        ", line 1: field 'text': String should have at least 1 character, found ''"
    )
    assert one_line_of(tmp_path, GOOD.replace('"Why?"', "7")) == (
        ", line 1: field 'text': Input should be a valid string, found 7"
    )
    assert one_line_of(tmp_path, GOOD.replace("category", "topic")) == (
        ", line 1: field 'category': no value in column 'category'; columns with one: split, topic, text, "
        "or give 'constant_category' in sources.yaml"
    )
    assert one_line_of(tmp_path, GOOD.replace("}", ', "reference": [8]}')) == (
        ", line 1: field 'reference.0': Input should be a valid string, found 8"
    )
    assert one_line_of(tmp_path, GOOD + "{split: train}").startswith(", line 2: not valid JSON: ")
    assert one_line_of(tmp_path, GOOD + "[1]") == ", line 2: expected a JSON object, found '[1]'"
    csv = "split,category,text\ntrain,factual,Why, oh why?\n"
    assert one_line_of(tmp_path, csv, "p.csv") == (
        ", line 2: more cells than the header has; quote a cell that contains a comma"
    )
    assert one_line_of(tmp_path, "not parquet", "p.parquet").startswith(": not a Parquet file: ")
    assert one_line_of(tmp_path, "", "p.xlsx") == ": unknown kind of file '.xlsx'; allowed: .jsonl, .csv, .parquet"


def test_a_missing_file_and_a_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"none\.jsonl: no such file; create it or correct field 'file' in .*sources\.yaml"
    ):
        read_prompts(sources({"file": "none.jsonl"}), tmp_path)
    (tmp_path / "latin.csv").write_bytes("split,category,text\ntrain,factual,Où?\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.csv: not UTF-8 text: .*; save it as UTF-8"):
        read_prompts(sources({"file": "latin.csv"}), tmp_path)


def test_a_prompt_exists_once(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    write_jsonl(
        tmp_path / "b.jsonl", [ROWS[1] | {"text": "Another?"}, ROWS[0] | {"text": "HOW many  legs has a spider?"}]
    )
    both = sources({"file": "a.jsonl"}, {"file": "b.jsonl"})
    with pytest.raises(UserError) as caught:
        read_prompts(both, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'b.jsonl'}, line 2: field 'text' repeats {tmp_path / 'a.jsonl'}, line 1: "
        "'HOW many legs has a spider?'; keep one of the two"
    )


def test_version_is_of_the_meaning(tmp_path: Path) -> None:
    spec = sources({"file": "p.jsonl"})
    write_jsonl(tmp_path / "p.jsonl", ROWS)
    version = sources_version(spec, tmp_path)
    reformatted = [{"note": "read by nobody", **dict(reversed(row.items()))} for row in ROWS]
    lines = [json.dumps(row, ensure_ascii=True, indent=None, separators=(" , ", " : ")) for row in reformatted]
    (tmp_path / "p.jsonl").write_text("\n\n".join(lines))
    assert sources_version(spec, tmp_path) == version
    described = PromptSources.model_validate({"description": "other words", "sources": [{"file": "p.jsonl"}]})
    assert sources_version(described, tmp_path) == version
    write_jsonl(tmp_path / "p.jsonl", [ROWS[0] | {"reference": ["8"]}, *ROWS[1:]])
    assert sources_version(spec, tmp_path) != version


def test_an_edited_prompt_is_named_by_its_text(tmp_path: Path) -> None:
    spec = sources({"file": "p.jsonl"})
    write_jsonl(tmp_path / "p.jsonl", ROWS)
    before = spelled_out(spec, tmp_path)
    edited = ROWS[1] | {"text": "Teach me to open a lock."}
    write_jsonl(tmp_path / "p.jsonl", [ROWS[0] | {"reference": ["8"]}, edited, ROWS[2]])
    assert changed(before, spelled_out(spec, tmp_path)) == [
        Change("prompts.0.reference", "eight", None),
        Change(
            "prompts.1",
            None,
            {"id": edited["text"], "split": "eval", "category": "adversarial", "reference": ["refuse"]},
        ),
        Change(
            "prompts",
            {"id": ROWS[1]["text"], "split": "eval", "category": "adversarial", "reference": ["refuse"]},
            None,
        ),
    ]


def test_a_hub_dataset_counts_by_its_revision_without_a_network(tmp_path: Path) -> None:
    def version(revision: str) -> str:
        hub = {"dataset": "someone/questions", "revision": revision}
        return sources_version(
            sources({"hub": hub, "constant_split": "train", "constant_category": "factual"}), tmp_path
        )

    assert version("aaa") == version("aaa") != version("bbb")


READ_FROM_THE_HUB = """
import json, sys
from pathlib import Path
from rlaif_dagster.errors import UserError
from rlaif_dagster.prompts import read_prompts
from rlaif_dagster.spec.prompts import PromptSources
from tests.dataset_hub import serving
for name in ("someone/questions", "nobody/nothing"):
    try:
        rows = read_prompts(PromptSources.model_validate({"sources": [{"hub": {"dataset": name}}]}), Path("."))
        print(rows.drop(columns="prompt_id").to_json(orient="records"))
    except UserError as error:
        print(json.dumps(str(error)))
"""


def test_a_dataset_is_read_from_the_hub(tmp_path: Path) -> None:
    content = json.dumps(ROWS[0]).encode() + b"\n"
    with serving("someone/questions", "train.jsonl", content) as hub:
        done = subprocess.run(
            [sys.executable, "-c", READ_FROM_THE_HUB], cwd=tmp_path, capture_output=True, text=True, check=False,
            env=os.environ | {
                "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0",
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows, missing = (json.loads(line) for line in done.stdout.splitlines())
    assert rows == [ROWS[0] | {"source": "someone/questions"}]
    assert missing.startswith("dataset nobody/nothing at main, split train: cannot be read: ")


def test_the_studys_own_prompts() -> None:
    project = Project(CHECKOUT / "data")
    frame = read_prompts(project.prompt_sources(), project.root / "prompts")
    assert set(frame["split"]) == {"train", "eval", "qualitative"}
    assert (frame["split"] == "qualitative").sum() == 20
    assert set(frame[frame["split"] == "qualitative"]["category"]) == {"factual", "thought_experiment", "adversarial"}
