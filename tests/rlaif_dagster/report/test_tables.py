from __future__ import annotations

import pandas as pd

from rlaif_dagster.report.evidence import gather
from rlaif_dagster.report.tables import Cell, difference_rows, key_numbers, missing_parts, pair_names, win_matrix
from tests.rlaif_dagster.report.study import study_tables


def test_key_numbers_mark_what_differs_from_base() -> None:
    tables = study_tables()
    rows = {row.name: row for row in key_numbers(gather(tables), tables)}
    assert rows["greedy adherence"].cells[:2] == (Cell("0%", "0 to 6%", 0), Cell("47%", "35 to 59%", 1))
    assert rows["win rate against base"].cells[0] is None
    assert rows["mean length, tokens"].good == 0
    assert next(iter(rows.values())).group == "Format"


def test_rows_without_numbers_are_left_out() -> None:
    tables = study_tables(adherence=None)
    assert not [row for row in key_numbers(gather(tables), tables) if row.group == "Format"]
    assert key_numbers(gather({}), {}) == []


def test_grades_come_from_the_judge_where_it_graded() -> None:
    rows = [("dpo", "p", 0.8, "likelihood"), ("dpo", "q", 0.6, "likelihood"), ("dpo", "p", 0.0, "human")]
    frame = pd.DataFrame(rows, columns=["arm", "prompt_id", "alignment_grade", "grader"]).assign(
        correctness_grade=None, seed=0
    )
    row = next(row for row in key_numbers(gather({}), {"qualitative": frame}) if row.name == "alignment grade")
    assert row.cells == (None, None, Cell("0.70", "0.60 to 0.80"), None)


def test_missing_parts_are_shares_of_all_answers_of_the_arm() -> None:
    rows = [("sft", "p", None), ("sft", "q", "Answer"), ("dpo", "p", None), ("dpo", "q", None)]
    frame = pd.DataFrame(rows, columns=["arm", "prompt_id", "missing"]).assign(split="eval", decoding="greedy")
    assert missing_parts(frame) == (["sft", "dpo"], [("Answer", ["50%", "0%"])])


def test_the_matrix_has_a_side_for_each_arm() -> None:
    arms, rows = win_matrix(gather(study_tables()))
    assert arms == ["base", "sft", "dpo", "ppo"]
    dpo_ppo, ppo_dpo = rows[2][3], rows[3][2]
    assert dpo_ppo is not None
    assert ppo_dpo is not None
    assert (dpo_ppo.text, ppo_dpo.text, dpo_ppo.decided) == ("45%", "55%", False)
    assert (dpo_ppo.counts, ppo_dpo.counts) == ("28 won, 34 lost, 2 tied", "34 won, 28 lost, 2 tied")
    assert rows[0][0] is None


def test_differences_cover_every_pair_that_the_question_needs() -> None:
    evidence = gather(study_tables())
    rows = dict(difference_rows([*evidence.adherence, *evidence.suites]))
    assert pair_names()[-1] == "DPO − PPO"
    assert rows["greedy adherence"][1] == Cell("+91", "+80 to +96", 1)
