"""A wrong file of every kind: one line that names it and what to do, status 2, and nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rlaif_dagster.home import CHECKOUT
from tests.checkout import Checkout

BROKEN = {
    "study.yaml": ("models: [nobody]\nconstitutions: [structured]\n", ["field 'models'", "'nobody'", "allowed"]),
    "constitutions/structured.yaml": ("principles: []\n", ["field 'principles'", "found []"]),
    "models/smollm2-135m-instruct.yaml": ("dtype: float8\nfolder: x\n", ["field 'dtype'", "'float8'", "float32"]),
    "judges/likelihood.yaml": ("kind: oracle\n", ["kind", "'oracle'", "likelihood"]),
    "recipes/judging.yaml": ("judge: nobody\n", ["field 'judge'", "'nobody'", "allowed"]),
    "recipes/generation.yaml": ("exemplars: many\n", ["field 'exemplars'", "'many'"]),
    "recipes/sft.yaml": ("learning_rate: -1\n", ["field 'learning_rate'", "greater than 0", "-1"]),
    "recipes/reward.yaml": ("min_acuracy: 1\n", ["field 'min_acuracy' is unknown", "min_accuracy"]),
    "recipes/dpo.yaml": ("start: [\n", ["not valid YAML"]),
    "recipes/ppo.yaml": ("minibatches: 5\n", ["minibatches 5 must divide rollout_batch"]),
    "recipes/benchmarks.yaml": ("tasks: []\n", ["field 'tasks'"]),
    "benchmarks/mmlu_mini.jsonl": ('{"question": 1}\n', ["line 1"]),
    "prompts/sources.yaml": ("sources: [{file: absent.csv}]\n", ["absent.csv"]),
    "prompts/study.jsonl": (
        '{"text": "Why?", "split": "test", "category": "factual"}\n',
        ["line 1", "'test'", "train"],
    ),
    "labels/format_pairs.jsonl": ('{"prompt": "p"}\n', ["row 1", "field 'answer_a' is missing"]),
    "labels/human_grades.jsonl": ("no json\n", ["line 1"]),
}


@pytest.mark.parametrize("file", BROKEN)
def test_a_broken_file_is_one_line_and_nothing_is_written(tmp_path: Path, file: str) -> None:
    shutil.copytree(CHECKOUT / "data", tmp_path / "data")
    study = Checkout(tmp_path / "data", tmp_path / "home")
    content, told = BROKEN[file]
    (study.data / file).write_text(content, encoding="utf-8")
    run = study.rlaif("up")
    assert run.returncode == 2, run.stderr
    [line] = run.stderr.splitlines()
    assert file in line
    for part in told:
        assert part in line
    assert not study.home.exists()


def test_prompts_of_ones_own_are_the_studys(tmp_path: Path) -> None:
    """A CSV with its own column names in place of the study's file."""
    shutil.copytree(CHECKOUT / "data", tmp_path / "data")
    study = Checkout(tmp_path / "data", tmp_path / "home")
    (study.data / "prompts" / "mine.csv").write_text("question,answer,use\nWhat is ice?,water,eval\nWhy rain?,,train\n")
    (study.data / "prompts" / "sources.yaml").write_text(
        "sources:\n- {file: mine.csv, text: question, reference: answer, split: use, constant_category: factual}\n"
    )
    study.up("--select", "prompts")
    rows = study.rows("select text, split, category, reference, source from prompts order by text")
    assert [row["text"] for row in rows] == ["What is ice?", "Why rain?"]
    assert [row["split"] for row in rows] == ["eval", "train"]
    assert [row["reference"] for row in rows] == [["water"], None]
    assert {row["category"] for row in rows} == {"factual"}
