"""The page: one grid cell in, one self-contained HTML file out.

Model output, prompts and labels are text from strangers: Jinja2's autoescaping is on, the only markup let through is our
own figures, styles and script, and a content security policy forbids any other script and any request.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rlaif_dagster.evaluation.head_to_head import pooled
from rlaif_dagster.report import people, sections
from rlaif_dagster.report.arms import ARMS, DARK, LIGHT, label
from rlaif_dagster.report.categories import grades_by_category
from rlaif_dagster.report.cell import CellReport
from rlaif_dagster.report.drawing import Plot, alone
from rlaif_dagster.report.estimate import percent
from rlaif_dagster.report.length import cut_off
from rlaif_dagster.report.svg import inline
from rlaif_dagster.report.tables import difference_rows, key_numbers, missing_parts, pair_names, win_matrix
from rlaif_dagster.spec.constitution import Format
from rlaif_dagster.spec.labels import is_human
from rlaif_dagster.spec.model import ModelSpec

CONTENTS = (
    ("verdict", "Verdict"), ("method", "Method"), ("numbers", "Key numbers"), ("benchmarks", "Benchmarks"),
    ("safety", "Safety"), ("adherence", "Format"), ("head-to-head", "Head to head"), ("length", "Length"),
    ("training", "Training"), ("grade", "Grade it yourself"), ("answers", "Answers"), ("judge", "Judge"),
    ("pairs", "Preference data"), ("constitution", "Constitution"), ("cost", "Cost"), ("lineage", "Lineage"),
    ("reproduce", "Reproduce"),
)  # fmt: skip

ANSWER_CHARACTERS = 2_500_000
"""Room for the answers side by side: the page stays under 6 MB even when every character takes two bytes."""


@dataclass(frozen=True)
class Drawing:
    """One panel of the page."""

    title: str
    hint: str
    svg: Markup


def build_report(cell: CellReport) -> str:
    """The report on one grid cell as HTML."""
    evidence, figures, spec = cell.evidence, cell.figures, cell.constitution_spec
    environment = page_environment()
    script = "".join(environment.get_template(f"{name}.js.j2").render() for name in ("answers", "grading"))
    pairs, qualitative = cell.table("preference_pairs"), cell.table("qualitative")
    matrix_arms, matrix = win_matrix(evidence)
    missing_arms, missing = missing_parts(cell.table("adherence"))
    asked = sections.within(cell.asked, ANSWER_CHARACTERS)
    by_judge = qualitative[~qualitative["grader"].map(is_human).astype(bool)]
    return environment.get_template("report.html.j2").render(
        model=cell.model,
        constitution=cell.constitution,
        spec=spec,
        format_text=_format_text(spec.format),
        has_format=spec.format is not None,
        contents=[(id, title) for id, title in CONTENTS if id != "safety" or figures.safety],
        verdict=cell.verdict,
        caveats=cell.caveats,
        method=cell.method,
        arms=ARMS,
        key_numbers=key_numbers(evidence, cell.tables),
        levels={"alignment": _drawn(figures.alignment), "capability": _drawn(figures.capability)},
        differences=_drawn(figures.differences),
        difference_rows=difference_rows([*evidence.adherence, *evidence.headlines]),
        pair_names=pair_names(),
        safety=_drawn(figures.safety),
        adherence=_drawn(figures.adherence),
        missing=missing,
        missing_arms=missing_arms,
        matrix_arms=matrix_arms,
        matrix=list(zip(matrix_arms, matrix, strict=True)),
        contest_notes=sections.contest_notes(pooled(cell.table("head_to_head"))),
        seed_contests=sections.seed_contests(cell.table("head_to_head")),
        lengths=_drawn(figures.length),
        cut_off=cut_off(cell.table("responses")),
        asked=asked,
        left_out=len(cell.asked) - len(asked),
        graded_arms=sections.graded_arms(asked),
        trained_often=any(seeds > 1 for seeds in evidence.seeds.values()),
        several_seeds=any(answer.others for one in asked for answer in one.answers),
        category_grades=grades_by_category(by_judge, list(sections.CATEGORIES)),
        people=people.agreement(qualitative),
        reward_kl=next(iter(_drawn(figures.reward_kl)), None),
        curves=_drawn(figures.learning),
        trained=sections.trained_rows(cell.table("models")),
        agreement=sections.agreement_rows(cell.table("judge_agreement")),
        slices=sections.slice_rows(cell.table("judge_agreement")),
        kinds=sections.verdict_kinds(cell.table("judgments")),
        verdict_names=sections.VERDICTS,
        pairs=sections.pair_samples(pairs),
        pair_summary=_pair_summary(pairs),
        cost=cell.cost,
        lineage=sections.lineage_rows(cell.table("lineage")),
        source=source_of(cell.model_spec),
        commands=commands(cell.model, cell.constitution, cell.model_spec),
        generated_at=when(cell.generated_at),
        **page_frame(script),
    )


def page_frame(script: str) -> dict[str, Any]:
    """What every page carries: the styles, its one script, and the hash by which the security policy knows that script."""
    return {
        "style": Markup(page_environment().get_template("style.css.j2").render(light=LIGHT, dark=DARK)),
        "script": Markup(script),
        "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def markdown_preview(cell: CellReport) -> str:
    """The verdict and the key numbers as short Markdown, for the metadata that Dagster's UI shows."""
    lines = [cell.verdict.sentence]
    rows = key_numbers(cell.evidence, cell.tables)
    if rows:
        lines += ["", "| | " + " | ".join(label(arm) for arm in ARMS) + " |", "|---" + "|---:" * len(ARMS) + "|"]
    for row in rows:
        texts = [
            f"{one.text} ({one.interval})" if one and one.interval else one.text if one else "–" for one in row.cells
        ]
        lines.append(f"| {row.name} | " + " | ".join(texts) + " |")
    return "\n".join(line.replace("<", "&lt;") for line in lines)


@cache
def page_environment() -> Environment:
    """The templates, with everything escaped that is not our own markup."""
    environment = Environment(
        loader=PackageLoader("rlaif_dagster.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {
        "label": label,
        "capital": capital,
        "sources": sections.sources,
        "groupby_order": _grouped,
        "category": sections.category_name,
    }
    return environment


def capital(text: str) -> str:
    """A sentence's first letter large, the others as they are."""
    return text[:1].upper() + text[1:]


def when(moment: datetime) -> str:
    """A moment as readers are told it, in UTC."""
    return moment.astimezone(UTC).strftime("%d %B %Y, %H:%M UTC")


def _grouped(rows: Iterable[Any], key: str | int) -> list[tuple[Any, list[Any]]]:
    """Neighbouring rows that share an attribute or an element; unlike Jinja2's own groupby it keeps the order."""
    pick = itemgetter(key) if isinstance(key, int) else attrgetter(key)
    return [(value, list(group)) for value, group in groupby(rows, key=pick)]


def _drawn(panels: Iterable[Plot]) -> list[Drawing]:
    return [Drawing(plot.title, plot.hint, inline(alone(plot), plot.key, plot.words)) for plot in panels]


def _pair_summary(pairs: pd.DataFrame) -> str:
    if pairs.empty:
        return ""
    held_out = int((pairs["split"] == "held_out").sum())
    longer = float((pairs["chosen"].str.len() > pairs["rejected"].str.len()).mean())
    text = (
        f"{len(pairs)} pairs, {held_out} of them held out; mean margin {pairs['margin'].astype(float).mean():.2f} (0 a toss-up, "
        f"1 certain). The chosen answer is the longer one in {percent(longer)} of them."
    )
    consistent = pairs["order_consistent"].dropna()
    if len(consistent):
        text += f" In {percent(float(consistent.astype(float).mean()))} the verdict is the same in both orders."
    return text + f" Below, {min(sections.SAMPLED_PAIRS, len(pairs))} from the clearest to the closest."


def _format_text(form: Format | None) -> str:
    if form is None:
        return ""
    return form.separator.join(
        f"{field.label}: [{'/'.join(field.values) if field.values else 'text'}]" for field in form.fields
    )


def source_of(spec: ModelSpec) -> str:
    """Where the base model's weights come from, exactly enough to get the same ones."""
    if spec.package:
        return f"package {spec.package.name} {spec.package.version}, {spec.package.file}, sha256 {spec.package.sha256}"
    return f"{spec.hub.repo} at revision {spec.hub.revision}" if spec.hub else f"folder {spec.folder}"


def commands(model: str, constitution: str, spec: ModelSpec) -> str:
    """The command lines that make this cell again."""
    cell = f"--model {shlex.quote(model)} --constitution {shlex.quote(constitution)}"
    lines = [
        f"rlaif models pull {shlex.quote(model)}",
        f"rlaif plan {cell}    # what would run and what it would cost",
        f"rlaif up {cell}",
        f"rlaif report {cell} --open",
        'rlaif sql "select arm, task, metric, value, ci_low, ci_high, n from benchmarks order by all"',
    ]
    return "\n".join(lines[1:] if spec.folder else lines)
