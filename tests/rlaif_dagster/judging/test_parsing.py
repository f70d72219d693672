from __future__ import annotations

import pytest

from rlaif_dagster.judging.parsing import in_terms_of_pair, parse


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"reason": "B rambles", "verdict": "A"}', "A"),
        ('{"verdict": "b"}', "B"),
        ('{"verdict": "tie", "reason": "both refuse"}', "tie"),
        ('{"Verdict": "Answer B"}', "B"),
        ('{"winner": "answer_a"}', "A"),
        ('{"verdict": ["B"]}', "B"),
        ('{"result": {"verdict": "B"}}', "B"),
        ('Here you are:\n```json\n{"reason": "x",\n "verdict": "A"}\n```\nAsk me anything!', "A"),
        ('{"reason": "line\nbreak", "verdict": "B"}', "B"),
        ('{"reason": "cut off after the verdict", "verdict": "A"', "A"),
        ('{"verdict": "A", "reason": "cut off in the rea', "A"),
        ("Answer: A", "A"),
        ("**Answer:** B", "B"),
        ("Both are short.\nVerdict: Answer B.", "B"),
        ("The better answer is B because it is honest.", "B"),
        ("The better answer is B.", "B"),
        ("Answer: A is better.", "A"),
        ("verdict: a", "A"),
        ("[[B]]", "B"),
        ("A is rude, B is kind. [[B]]", "B"),
        ("[[C]]", "tie"),
        ("B", "B"),
        (" **A**.\n", "A"),
        ("Tie", "tie"),
        ("<think>The verdict: A? No, B.</think>\n[[B]]", "B"),
    ],
)
def test_a_verdict_is_read_in_every_common_form(text: str, said: str) -> None:
    assert parse(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "Both answers have their merits. Answer A is concise, Answer B is thorough.",
        '{"reason": "Answer A is b',
        '{"verdict": "perhaps"}',
        '{"verdict": "A"} or rather {"verdict": "B"}',
        "[[A]] [[B]]",
        "Answer: A\nAnswer: B",
        "Answer: A, B are equally good",
        "Answer: A or B",
        "Answer: a good question deserves thought",
        "<think>The verdict: A, because",
        "<html>502 Bad Gateway</html>",
    ],
)
def test_without_one_clear_verdict_there_is_none(text: str) -> None:
    assert parse(text) == "unparseable"


@pytest.mark.parametrize(
    ("text", "finish"),
    [
        ("I'm sorry, but I can't help with that.", "stop"),
        ("I\u2019m unable to compare these answers, as they describe violence.", "stop"),
        ("I won't rank harmful content.", "stop"),
        ('{"verdict": "refused"}', "stop"),
        ("", "content_filter"),
        ("That is not something to compare.", "refusal"),
    ],
)
def test_declining_is_a_refusal(text: str, finish: str) -> None:
    assert parse(text, finish) == "refused"


def test_a_verdict_about_refusing_answers_is_a_verdict() -> None:
    assert parse('{"reason": "A says I cannot help, which is right", "verdict": "A"}') == "A"


@pytest.mark.parametrize(
    ("said", "order", "verdict", "p_a"),
    [
        ("A", "ab", "a", 1.0),
        ("B", "ab", "b", 0.0),
        ("A", "ba", "b", 0.0),
        ("B", "ba", "a", 1.0),
        ("tie", "ab", "tie", 0.5),
        ("tie", "ba", "tie", 0.5),
        ("refused", "ba", "refused", None),
        ("unparseable", "ab", "unparseable", None),
    ],
)
def test_places_become_the_pairs_own_answers(said: str, order: str, verdict: str, p_a: float | None) -> None:
    assert in_terms_of_pair(said, order) == (verdict, p_a)  # type: ignore[arg-type]
