"""A small warehouse whose numbers can be checked by hand: one cell, four arms, a handful of rows a table.

Adherence on four eval prompts, greedy: base none, SFT two, DPO and PPO all. One benchmark of four items.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rlaif_dagster.warehouse.store import Cell, Warehouse

CELL = Cell("tiny", "structured")
ARMS = ("base", "sft", "dpo", "ppo")
ADHERENT = {"base": 0, "sft": 2, "dpo": 4, "ppo": 4}
CORRECT = {"base": 2, "sft": 2, "dpo": 3, "ppo": 1}
WINS_AGAINST_BASE = {"sft": 2, "dpo": 4, "ppo": 3}


def write_measurements(root: Path) -> Warehouse:
    """The evaluation tables of `CELL` under `root`."""
    warehouse = Warehouse(root)
    adherence = [
        {
            "arm": arm,
            "seed": 0,
            "prompt_id": f"p{number}",
            "split": "eval",
            "decoding": decoding,
            "adherent": number < count,
            "missing": None if number < count else "Answer",
        }
        for arm, count in ADHERENT.items()
        for decoding in ("greedy", "sampled")
        for number in range(4)
    ]
    warehouse.write("adherence", pd.DataFrame(adherence), CELL)
    for arm, correct in CORRECT.items():
        cell = Cell("tiny") if arm == "base" else CELL
        items = [
            {
                "arm": arm,
                "seed": 0,
                "task": "mmlu_mini",
                "metric": "acc",
                "item_id": f"i{number}",
                "categories": ["astronomy"],
                "correct": number < correct,
                "score": float(number < correct),
                "text": f"Question {number}?",
                "answer": None,
            }
            for number in range(4)
        ]
        warehouse.write("benchmark_items", pd.DataFrame(items), cell, arm)
        row = {
            "arm": arm,
            "seed": 0,
            "task": "mmlu_mini",
            "metric": "acc",
            "category": None,
            "value": correct / 4,
            "stderr": 0.1,
            "ci_low": 0.0,
            "ci_high": 1.0,
            "n": 4,
            "fewshot": 0,
        }
        warehouse.write("benchmarks", pd.DataFrame([row]), cell, arm)
    wins = [
        {
            "arm_a": arm,
            "arm_b": "base",
            "seed_a": None,
            "seed_b": None,
            "seed_share": None,
            "wins_a": won,
            "wins_b": 4 - won,
            "ties": 0,
            "win_rate": won / 4,
            "ci_low": 0.1,
            "ci_high": 0.9,
            "length_controlled_win_rate": None,
            "length_controlled_low": None,
            "length_controlled_high": None,
            "n": 4,
            "unjudged": 0,
            "errors": 0,
            "order_consistent": None,
            "format_n": 0,
            "format_agreement": None,
        }
        for arm, won in WINS_AGAINST_BASE.items()
    ]
    warehouse.write("head_to_head", pd.DataFrame(wins), CELL)
    return warehouse
