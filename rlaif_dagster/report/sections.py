"""The page's sections beyond the numbers: answers side by side, the judge, the preference data, training and lineage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pandas as pd

from rlaif_dagster.report.arms import ARMS, in_order, label
from rlaif_dagster.report.estimate import Estimate, percent
from rlaif_dagster.spec.labels import answer_id, is_human

VERDICTS = ("a", "b", "tie", "refused", "unparseable", "error")
FAILED = ("refused", "unparseable", "error")
SAMPLED_PAIRS = 4

CATEGORIES = {
    "factual": "Factual questions", "thought_experiment": "Thought experiments", "adversarial": "Adversarial prompts",
    "instruction": "Instructions",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """One arm's answer to a qualitative prompt with its grades; `(grader, alignment, correctness, rationale)` each.

    It is that of the arm's first seed; where others were trained, `others` are theirs and `seed` tells whose it is.
    """

    arm: str
    text: str
    grades: tuple[tuple[str, str, str, str], ...]
    same_as: str = ""  # an arm before it that gave the same answer
    seed: int | None = None
    others: tuple[Answer, ...] = ()

    @property
    def answer_id(self) -> str:
        return answer_id(self.text)

    @property
    def alignment(self) -> str:
        """The first grader's alignment grade."""
        return self.grades[0][1] if self.grades else ""


@dataclass(frozen=True)
class Asked:
    """One qualitative prompt and the arms' answers, in the order of the arms."""

    prompt_id: str
    category: str
    prompt: str
    references: tuple[str, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Parent:
    """What an asset was made from; `replaced` when that asset has been made again with another content since."""

    asset: str
    version: str
    anchor: str
    replaced: bool


@dataclass(frozen=True)
class Materialized:
    """One row of the lineage table."""

    anchor: str
    asset: str
    partition: str
    data_version: str
    code_version: str
    upstream: tuple[Parent, ...]
    started_at: str
    duration: str
    cost: str


def side_by_side(qualitative: pd.DataFrame, prompts: pd.DataFrame) -> list[Asked]:
    """The qualitative prompts by category, each with every arm's answer."""
    references = dict(zip(prompts["prompt_id"], prompts["reference"], strict=True))
    out = []
    for (category, prompt_id), rows in qualitative.groupby(["category", "prompt_id"], sort=True):
        answers: list[Answer] = []
        for arm in in_order(set(rows["arm"])):
            own = rows[rows["arm"] == arm]
            first, *others = (_answer(arm, int(seed), given) for seed, given in own.groupby("seed", sort=True))
            same = next((answer.arm for answer in answers if answer.text == first.text), "")
            named = first.seed if others else None
            answers.append(replace(first, same_as=same, seed=named, others=tuple(others)))
        expected = _strings(references.get(prompt_id))
        out.append(Asked(str(prompt_id), str(category), _text(rows["prompt"].iloc[0]), expected, tuple(answers)))
    places = {category: place for place, category in enumerate(CATEGORIES)}
    return sorted(out, key=lambda one: places.get(one.category, len(places)))


def _answer(arm: str, seed: int, rows: pd.DataFrame) -> Answer:
    """One seed's answer with the judge's grade before people's."""
    own = sorted(rows.to_dict("records"), key=lambda row: is_human(row["grader"]))
    grades = tuple(
        (str(row["grader"]), _grade(row["alignment_grade"]), _grade(row["correctness_grade"]), _text(row["rationale"]))
        for row in own
    )
    return Answer(arm, _text(own[0]["response"]), grades, seed=seed)


def within(asked: list[Asked], characters: int) -> list[Asked]:
    """As many prompts as fit into so many characters of text, evenly from all categories, in the given order."""
    sizes = {
        one.prompt_id: len(one.prompt)
        + sum(len(answer.text) + sum(len(other.text) for other in answer.others) for answer in one.answers)
        for one in asked
    }
    by_category: dict[str, list[Asked]] = {}
    for one in asked:
        by_category.setdefault(one.category, []).append(one)
    turns = chain.from_iterable(zip_longest(*by_category.values()))
    kept: set[str] = set()
    for one in turns:
        if one is not None and (characters := characters - sizes[one.prompt_id]) >= 0:
            kept.add(one.prompt_id)
    return [one for one in asked if one.prompt_id in kept]


def category_name(category: str) -> str:
    """Heading of a category of prompts; a category of the user's own keeps its name."""
    return CATEGORIES.get(category, category.replace("_", " ").capitalize())


def agreement_rows(agreement: pd.DataFrame) -> list[dict[str, str | bool]]:
    """The judge against human labels; `trusted` when its whole interval lies above the longer answer's accuracy."""
    out: list[dict[str, str | bool]] = []
    for row in whole_files(agreement).sort_values(["dataset", "judge"]).to_dict("records"):
        out.append({
            "dataset": str(row["dataset"]), "judge": str(row["judge"]), "n": f"{int(row['n'])}",
            "accuracy": percent(row["accuracy"]), "interval": f"{100 * row['ci_low']:.0f} to {percent(row['ci_high'])}",
            "longest": "" if pd.isna(row["longest_baseline"]) else percent(row["longest_baseline"]),
            "kappa": "" if pd.isna(row["kappa"]) else f"{row['kappa']:.2f}",
            "orders": "" if pd.isna(row["order_consistency"]) else percent(row["order_consistency"]),
            "trusted": bool(row["ci_low"] > max(row["longest_baseline"] if pd.notna(row["longest_baseline"]) else 0.0, 0.5)),
        })  # fmt: skip
    return out


def slice_rows(agreement: pd.DataFrame) -> list[dict[str, str]]:
    """The judge against labels by principle and category, where a file has several."""
    if "slice" not in agreement:
        return []
    rows = agreement[agreement["slice"] != "all"].sort_values(["dataset", "judge", "slice", "name"])
    return [
        {
            "dataset": str(row["dataset"]), "slice": str(row["slice"]), "name": _text(row["name"]), "n": f"{int(row['n'])}",
            "accuracy": percent(row["accuracy"]), "interval": f"{100 * row['ci_low']:.0f} to {percent(row['ci_high'])}",
        }
        for row in rows.to_dict("records")
    ]  # fmt: skip


def contest_notes(head_to_head: pd.DataFrame) -> list[str]:
    """What qualifies the win rates: whether both orders agree, whether the judge agrees with the format check, and meetings
    without a verdict."""

    def known(column: str) -> pd.Series:
        return head_to_head[column].dropna().astype(float) if column in head_to_head else pd.Series(dtype=float)

    notes = []
    if len(orders := known("order_consistent")):
        notes.append(
            f"Both orders of the two answers gave the same preference in {percent(float(orders.mean()))} of meetings."
        )
    n, agreed = known("format_n"), known("format_agreement")
    if n.sum() and len(agreed):
        weights = n.loc[agreed.index]
        share = float((weights * agreed).sum() / weights.sum())
        notes.append(
            f"Of {int(weights.sum()):,} meetings in which exactly one answer has the constitution's format, the judge prefers "
            f"that one in {percent(share)}."
        )
    if missing := int(known("unjudged").sum()):
        notes.append(f"{missing:,} meetings have no verdict and count for nobody.")
    return notes


def seed_contests(head_to_head: pd.DataFrame) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Arms with several seeds, seed against seed: (which arms, rows of seeds, win rate, its interval)."""
    out = []
    single = head_to_head[head_to_head["seed_a"].notna() & head_to_head["win_rate"].notna()]
    for (a, b), rows in single.groupby(["arm_a", "arm_b"], sort=False):
        if len(rows) < 2:
            continue
        met = []
        for row in rows.sort_values(["seed_a", "seed_b"]).to_dict("records"):
            rate = Estimate(row["win_rate"], row["ci_low"], row["ci_high"], int(row["n"]))
            met.append((f"seeds {int(row['seed_a'])}, {int(row['seed_b'])}", rate.share, rate.share_range))
        out.append((f"{label(str(a))} over {label(str(b))}", met))
    return out


def whole_files(agreement: pd.DataFrame) -> pd.DataFrame:
    """The rows that speak of a whole file of labels, not of one of its principles or categories."""
    return agreement[agreement["slice"] == "all"] if "slice" in agreement else agreement


def verdict_kinds(judgments: pd.DataFrame) -> list[tuple[str, int, list[str]]]:
    """Verdict kinds by principle: (principle, verdicts, share of each kind of `VERDICTS`)."""
    out = []
    for principle, rows in judgments.groupby("principle_id", sort=True):
        counts = rows["verdict"].value_counts()
        shares = [percent(counts.get(kind, 0) / len(rows)) if counts.get(kind, 0) else "" for kind in VERDICTS]
        out.append((str(principle), len(rows), shares))
    return out


def pair_samples(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """A few training pairs from the clearest to the closest, evenly spread over the margins."""
    ranked = pairs.sort_values(["margin", "pair_id"], ascending=[False, True]).reset_index(drop=True)
    last = len(ranked) - 1
    picks = sorted({round(i * last / max(1, SAMPLED_PAIRS - 1)) for i in range(SAMPLED_PAIRS)}) if last >= 0 else []
    return [
        {
            "prompt": _text(row["prompt"]), "chosen": _text(row["chosen"]), "rejected": _text(row["rejected"]),
            "margin": f"{row['margin']:.2f}", "p": f"{row['p_chosen']:.2f}", "split": str(row["split"]).replace("_", " "),
        }
        for row in ranked.iloc[picks].to_dict("records")
    ]  # fmt: skip


def trained_rows(models: pd.DataFrame) -> list[dict[str, str]]:
    """What was trained: start, tokens, time, memory and the hashes that identify it."""
    order = {arm: place for place, arm in enumerate(("sft", "reward", "dpo", "ppo"))}
    rows = sorted(models.to_dict("records"), key=lambda row: (order.get(row["arm"], 9), row["seed"]))
    return [
        {
            "arm": label(row["arm"]),
            "seed": str(row["seed"]),
            "start": label(str(row["start"])),
            "tokens": f"{int(row['tokens']):,}",
            "duration": duration(row["seconds"]),
            "memory": _gigabytes(row["peak_memory_bytes"]),
            "digest": short(row["digest"]),
            "recipe": short(row["recipe_hash"]),
        }
        for row in rows
    ]


def lineage_rows(lineage: pd.DataFrame) -> list[Materialized]:
    """The latest materialization of each asset and partition behind the report, parents before children."""
    records = {(str(row["asset"]), _text(row["partition"])): row for row in newest(lineage).to_dict("records")}
    parents = {key: [_key(parent) for parent in _items(row["upstream"])] for key, row in records.items()}
    out = []
    for key in _parents_first(parents):
        row = records[key]
        started = "" if pd.isna(row["started_at"]) else pd.Timestamp(row["started_at"]).strftime("%Y-%m-%d %H:%M")
        out.append(
            Materialized(
                anchor=anchor(*key),
                asset=key[0],
                partition=key[1],
                data_version=short(row["data_version"]),
                code_version=short(row["code_version"]),
                upstream=tuple(_parent(parent, records) for parent in _items(row["upstream"])),
                started_at=started,
                duration=duration(row["seconds"]),
                cost=money(row["cost_usd"]),
            )
        )
    return out


def newest(lineage: pd.DataFrame) -> pd.DataFrame:
    """The last record of each asset and partition, without what only gathers: the report itself and `results`."""
    behind = lineage[~lineage["asset"].isin(["report", "results"])]
    return behind.sort_values("started_at").drop_duplicates(["asset", "partition"], keep="last")


def _key(parent: dict[str, Any]) -> tuple[str, str]:
    return str(parent["asset"]), _text(parent["partition"])


def _parent(parent: dict[str, Any], records: dict[tuple[str, str], dict[Any, Any]]) -> Parent:
    key = _key(parent)
    known = key in records
    replaced = known and records[key]["data_version"] != parent["version"]
    return Parent(key[0], short(parent["version"]), anchor(*key) if known else "", replaced)


def _parents_first(parents: dict[tuple[str, str], list[tuple[str, str]]]) -> list[tuple[str, str]]:
    done: list[tuple[str, str]] = []
    seen: set[tuple[str, str]] = set()

    def visit(key: tuple[str, str]) -> None:
        if key in parents and key not in seen:
            seen.add(key)
            for parent in parents[key]:
                visit(parent)
            done.append(key)

    for key in parents:
        visit(key)
    return done


def anchor(asset: str, partition: str) -> str:
    """Id of an asset's row; letters, digits and dashes only."""
    text = f"lineage-{asset}-{partition}"
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in text).strip("-")


def sources(rows: Sequence[Materialized], assets: Iterable[str]) -> list[Materialized]:
    """The lineage rows of the named assets, in the order of the names."""
    wanted = list(assets)
    return sorted((row for row in rows if row.asset in wanted), key=lambda row: wanted.index(row.asset))


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 27 s`, `2 h 05 min`; a dash where unknown."""
    if seconds is None or pd.isna(seconds):
        return "\N{EN DASH}"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def short(version: object) -> str:
    """The first twelve characters of a hash."""
    return _text(version)[:12]


def money(dollars: float | None) -> str:
    """US dollars to the cent, small amounts finer; a dash where unknown."""
    if dollars is None or pd.isna(dollars):
        return "\N{EN DASH}"
    return f"${dollars:,.2f}" if dollars == 0 or dollars >= 0.01 else f"${dollars:.4f}"


def _gigabytes(size: float | None) -> str:
    return "\N{EN DASH}" if size is None or pd.isna(size) else f"{size / 1e9:.1f} GB"


def _grade(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.2f}"


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and pd.isna(value)) or value is pd.NA else str(value)


def _items(value: Any) -> list[Any]:
    """The elements of a list column's value, whichever kind of list or null the reader of the table made of it."""
    return list(value) if isinstance(value, list | tuple | np.ndarray) else []


def _strings(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(str(item) for item in _items(value))


def graded_arms(asked: Sequence[Asked]) -> list[str]:
    """Arms that answered any qualitative prompt."""
    found = {answer.arm for one in asked for answer in one.answers}
    return [arm for arm in ARMS if arm in found]
