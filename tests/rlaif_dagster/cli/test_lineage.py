"""The tree of versions."""

from __future__ import annotations

from rich.console import Console

from rlaif_dagster.cli.lineage import tree
from rlaif_dagster.planning import Node

SPEC = Node("model_spec tiny", "m1")
PAIRS = Node("preference_pairs tiny|structured", "p1", (Node("judgments", "j1"), SPEC))
SFT = Node("sft_model tiny|structured", "s1", (PAIRS, Node("recipe_sft [tiny]", "r1")))
DPO = Node("dpo_model tiny|structured", "d1", (PAIRS, SFT, Node("recipe_dpo tiny", None)))


def test_each_version_is_named_and_what_comes_again_is_not_opened_again() -> None:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(tree(DPO))
    assert [line.rstrip() for line in captured.get().splitlines()] == [
        "dpo_model tiny|structured  d1",
        "├── preference_pairs tiny|structured  p1",
        "│   ├── judgments  j1",
        "│   └── model_spec tiny  m1",
        "├── sft_model tiny|structured  s1",
        "│   ├── preference_pairs tiny|structured  p1  (see above)",
        "│   └── recipe_sft [tiny]  r1",
        "└── recipe_dpo tiny  never made",
    ]
