"""The gate between judging and training: a judge that misses the recipe's thresholds trains nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.checkout import Checkout

pytestmark = pytest.mark.timeout(1800)
JUDGING = "judge: likelihood\npairs: {min_margin: 0.0, held_out_share: 0.4}\n"


def test_a_judge_that_misses_a_threshold_blocks_what_would_train_on_it(tiny_study: Checkout, tmp_path: Path) -> None:
    study = Checkout(tmp_path / "data", tmp_path / "home")
    shutil.copytree(tiny_study.data, study.data)
    recipe = study.data / "recipes/judging.yaml"
    recipe.write_text(JUDGING + "trust: {min_kappa: 0.9}\n")  # one labelled pair has no kappa
    run = study.rlaif("up", "--select", "+sft_model")
    assert run.returncode != 0
    told = " ".join(run.stderr.split())
    assert "judge_agreement brief: check trust failed: pairs: kappa unknown is below min_kappa 0.9" in told
    assert "choose another judge, or lower trust in data/recipes/judging.yaml" in told
    made = {row["asset"] for row in study.rows("select distinct asset from lineage")}
    assert {"completions", "revisions", "judgments"} <= made
    assert not {"judge_agreement", "preference_pairs", "sft_model"} & made
    assert not list((study.home / "models").glob("*/*.safetensors"))

    recipe.write_text(JUDGING)  # trust is not asked for: the verdicts are there, and training goes on
    study.up("--select", "+preference_pairs")
    made = {row["asset"] for row in study.rows("select distinct asset from lineage")}
    assert {"judge_agreement", "preference_pairs"} <= made
