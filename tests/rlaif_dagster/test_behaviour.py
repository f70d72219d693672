"""What the code does has a version: a plan must see a change of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from assets.graph import graph_nodes
from rlaif_dagster.behaviour import LM_EVAL, REVISING, SAMPLING, Behaviour, code_version
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.inputs import judge_meaning
from rlaif_dagster.judging.parsing import PARSING_VERSION
from rlaif_dagster.judging.template import LIKELIHOOD_VERSION, TEMPLATE_VERSION
from rlaif_dagster.language.candidates import in_context_chat, rewriting_chat
from rlaif_dagster.spec.constitution import Constitution, Exemplar, Principle
from rlaif_dagster.spec.project import Project


def test_a_code_version_names_what_it_rests_on() -> None:
    assert code_version("2") == "2"
    assert code_version("2", Behaviour("sampling", 3), Behaviour("lm-eval", "0.4.13")) == "2 sampling=3 lm-eval=0.4.13"


def test_assets_rest_on_the_behaviours_that_make_their_content() -> None:
    versions = {name: node.code_version or "" for name, node in graph_nodes().items()}
    sampled = {name for name, version in versions.items() if f"sampling={SAMPLING.version}" in version}
    assert sampled == {"completions", "revisions", *(f"{arm}_responses" for arm in ("base", "sft", "dpo", "ppo"))}
    evaluated = {name for name, version in versions.items() if f"lm-eval={LM_EVAL.version}" in version}
    assert evaluated == {f"{arm}_benchmarks" for arm in ("base", "sft", "dpo", "ppo")}


def test_how_a_judge_is_asked_is_part_of_the_judge() -> None:
    project = Project(CHECKOUT / "data")
    assert judge_meaning(project, "likelihood")["asked"] == {"likelihood": LIKELIHOOD_VERSION}
    asked = judge_meaning(project, "panel")["asked"]
    assert asked["gpt-4o-mini"] == content_hash(TEMPLATE_VERSION, PARSING_VERSION)


def test_another_wording_of_revisions_is_another_version() -> None:
    """Where this fails, raise REVISING in rlaif_dagster/behaviour.py and put the new hash here."""
    lm: Any = SimpleNamespace(spec=SimpleNamespace(system_prompt=None), chat=lambda *a, **k: [a, sorted(k.items())])
    constitution = Constitution(
        principles=[Principle(id="p", text="Be very brief."), Principle(id="q", text="Be very kind.")],
        exemplars=[Exemplar(prompt="Ice?", response="Frozen water.")],
    )
    chats = [in_context_chat(lm, "Rain?", constitution, 1), rewriting_chat(lm, "Rain?", "Water.", constitution)]
    assert (REVISING.version, content_hash(chats)) == (1, "cb4e5dbf873ceb9e")
