"""per_principle, joint and sampled: what each asks, what an edit asks again, and what comes out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.judging import api
from rlaif_dagster.judging.aggregate import preferences
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.parsing import Said
from rlaif_dagster.judging.questions import judged_by
from rlaif_dagster.judging.verdicts import Mode
from rlaif_dagster.spec.constitution import Constitution
from tests.rlaif_dagster.judging.chat_server import Reply, says, serving, shown, verdict
from tests.rlaif_dagster.judging.conftest import constitution, pair

MakeJudge = Callable[..., ApiJudge]
BOTH = ("ab", "ba")
PAIRS = [pair(number) for number in range(20)]
TEN = [f"Principle number {number} of ten." for number in range(10)]
LAW = constitution(*TEN)
EDITED = constitution(*TEN[:3], "Principle number 3, edited.", *TEN[4:])


def answers(request: dict[str, Any], number: int) -> Reply:
    """Prefers the good answer; in a joint question under every principle but p1, where the bad one is better."""
    good, bad = ("A", "B") if "good" in shown(request)[0] else ("B", "A")
    system = request["messages"][0]["content"]
    if "verdicts" not in system:
        return verdict(good)
    names = [line[2:].partition(":")[0] for line in system.splitlines() if line.startswith("- p")]
    return says(json.dumps({"reason": "so", "verdicts": {name: bad if name == "p1" else good for name in names}}))


def requests_of(judge: ApiJudge, law: Constitution, mode: Mode, server: Any) -> int:
    """How many requests judging takes now."""
    before = len(server.requests)
    judge.judge(PAIRS, law, BOTH, mode=mode)
    return len(server.requests) - before


def test_one_edited_principle_of_ten_asks_a_tenth_and_a_comment_nothing(api_judge: MakeJudge) -> None:
    with serving(answers) as server:
        judge = api_judge(server.url, concurrency=32)
        assert requests_of(judge, LAW, "per_principle", server) == 20 * 10 * 2
        assert requests_of(judge, EDITED, "per_principle", server) == 20 * 2
        assert requests_of(judge, LAW, "per_principle", server) == 0  # an edit undone costs nothing
        described = LAW.model_copy(update={"description": "a comment"})
        weighed = constitution(*TEN, weights=tuple(range(1, 11)))
        assert requests_of(judge, described, "per_principle", server) == 0
        assert requests_of(judge, weighed, "per_principle", server) == 0
        assert requests_of(judge, constitution(*TEN, "An eleventh principle."), "per_principle", server) == 20 * 2


def test_a_changed_parser_asks_nothing_and_reads_every_stored_answer_anew(
    api_judge: MakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always_b(text: str, finish: str = "stop", shown: Any = ()) -> Said:
        return "B"

    with serving(answers) as server:
        judge = api_judge(server.url)
        before = judge.judge(PAIRS, LAW, ("ab",))
        monkeypatch.setattr(api, "parse", always_b)
        asked = len(server.requests)
        after = judge.judge(PAIRS, LAW, ("ab",))
        assert len(server.requests) == asked
    assert after["verdict"].eq("b").all()
    assert not before["verdict"].eq("b").all()
    assert after["raw"].tolist() == before["raw"].tolist()


def test_joint_asks_once_a_pair_and_order_and_has_a_verdict_for_each_principle(api_judge: MakeJudge) -> None:
    with serving(answers) as server:
        judge = api_judge(server.url)
        joint = judge.judge(PAIRS, LAW, BOTH, mode="joint")
        assert len(server.requests) == 20 * 2
        assert requests_of(judge, EDITED, "joint", server) == 20 * 2  # any edit is in every question
        each = judge.judge(PAIRS, LAW, BOTH)
    keys = ["pair_id", "principle_id", "order"]
    pd.testing.assert_frame_equal(joint[keys], each[keys])
    opposite = joint["verdict"] != each["verdict"]
    assert opposite.tolist() == (joint["principle_id"] == "p1").tolist()
    # a request's price and tokens are shared out: the sums are those of the requests
    assert joint["cost_usd"].sum() == pytest.approx(40 * (100 * 10e-6 + 20 * 100e-6))
    assert (joint["tokens_in"].sum(), joint["tokens_out"].sum()) == (40 * 100, 40 * 20)
    assert joint["template_version"].nunique() == 1
    assert joint["template_version"][0] != each["template_version"][0]


def test_in_a_joint_answer_what_lacks_a_verdict_is_unparseable_and_the_rest_counts(api_judge: MakeJudge) -> None:
    said = {"p0": "A", "p1": "tie"}
    law = constitution("The first principle.", "The second principle.", "The third principle.")
    with serving(lambda request, number: says(json.dumps({"verdicts": said}))) as server:
        judged = api_judge(server.url).judge([pair(0)], law, ("ab",), mode="joint")
    assert judged["verdict"].tolist() == ["a", "tie", "unparseable"]
    with serving(lambda request, number: says("I'm sorry, I can't compare those.")) as server:
        judged = api_judge(server.url).judge([pair(1)], law, ("ab",), mode="joint")
    assert judged["verdict"].tolist() == ["refused"] * 3


def test_sampled_asks_about_one_principle_a_pair_and_an_edit_of_it_those_pairs_again(api_judge: MakeJudge) -> None:
    drawn = Counter(judged_by(one, LAW, "sampled")[0].id for one in PAIRS)
    with serving(answers) as server:
        judge = api_judge(server.url)
        assert requests_of(judge, LAW, "sampled", server) == 20 * 2
        assert requests_of(judge, EDITED, "sampled", server) == drawn["p3"] * 2
        judged = judge.judge(PAIRS, LAW, BOTH, mode="sampled")
    assert Counter(judged.drop_duplicates("pair_id")["principle_id"]) == drawn
    assert len(preferences(judged, LAW)) == 20


def test_principles_are_drawn_by_weight_and_an_added_one_moves_no_pair_between_others() -> None:
    pairs = [pair(number) for number in range(4000)]
    law = constitution("The light principle.", "The heavy principle.", weights=(1.0, 3.0))
    before = [judged_by(one, law, "sampled")[0].id for one in pairs]
    assert before.count("p1") / len(before) == pytest.approx(0.75, abs=0.03)
    more = constitution("The light principle.", "The heavy principle.", "A third principle.", weights=(1.0, 3.0, 4.0))
    after = [judged_by(one, more, "sampled")[0].id for one in pairs]
    assert after.count("p2") / len(after) == pytest.approx(0.5, abs=0.03)
    assert all(now in (was, "p2") for was, now in zip(before, after, strict=True))


def test_a_measuring_judge_has_no_joint_mode() -> None:
    from rlaif_dagster.home import Home
    from rlaif_dagster.judging.likelihood import LikelihoodJudge
    from rlaif_dagster.spec.judge import LikelihoodJudge as Spec
    from rlaif_dagster.spec.model import ModelSpec

    judge = LikelihoodJudge("m", Spec(kind="likelihood", model="x"), ModelSpec(folder="/nowhere"), Home(None))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="field 'mode': found 'joint', allowed: per_principle, sampled"):
        judge.judge(PAIRS, LAW, BOTH, mode="joint")


def test_a_changed_parser_makes_the_judge_another_one_in_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered of a step is read anew, from the answers that are stored."""
    from rlaif_dagster import inputs
    from rlaif_dagster.spec.project import Project

    for name, text in {
        "judges/asked.yaml": "kind: api\nmodel: openai/x\n", "recipes/judging.yaml": "judge: asked\n",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = inputs.judge_meaning(Project(tmp_path), "asked")
    assert inputs.judge_meaning(Project(tmp_path), "asked") == before
    monkeypatch.setattr(inputs, "PARSING_VERSION", inputs.PARSING_VERSION + 1)
    after = inputs.judge_meaning(Project(tmp_path), "asked")
    assert after["judges"] == before["judges"]
    assert after["asked"] != before["asked"]
