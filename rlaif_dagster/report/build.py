"""The page: tables of one grid cell in, one self-contained HTML file out.

Model output, prompts and labels are text from strangers: Jinja2's autoescaping is on, the only markup let through is our
own figures, styles and script, and a content security policy forbids any other script and any request.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rlaif_dagster.report import plots, sections
from rlaif_dagster.report.arms import ARMS, DARK, LIGHT, label
from rlaif_dagster.report.caveats import caveats
from rlaif_dagster.report.curves import panels, unit_of
from rlaif_dagster.report.estimate import percent
from rlaif_dagster.report.evidence import Measure, gather, table
from rlaif_dagster.report.svg import inline
from rlaif_dagster.report.tables import difference_rows, key_numbers, missing_parts, pair_names, win_matrix
from rlaif_dagster.report.verdict import verdict
from rlaif_dagster.spec.constitution import Constitution, Format
from rlaif_dagster.spec.model import ModelSpec

CONTENTS = (
    ("verdict", "Verdict"), ("numbers", "Key numbers"), ("benchmarks", "Benchmarks"), ("adherence", "Format"),
    ("head-to-head", "Head to head"), ("answers", "Answers"), ("training", "Learning curves"), ("judge", "Judge"),
    ("pairs", "Preference data"), ("constitution", "Constitution"), ("lineage", "Lineage"), ("reproduce", "Reproduce"),
)  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """One panel of the page."""

    title: str
    hint: str
    svg: Markup


def build_report(
    tables: Mapping[str, pd.DataFrame],
    *,
    model: str,
    constitution: str,
    constitution_spec: Constitution,
    model_spec: ModelSpec,
    generated_at: datetime,
) -> str:
    """The report on one grid cell as HTML.

    `tables` holds the cell's rows of the tables prompts, preference_pairs, judgments, judge_agreement, models,
    training_metrics, benchmarks, benchmark_items, responses, adherence, head_to_head, qualitative and lineage, under
    the columns of `warehouse.schemas`; any may be empty or absent. The same arguments give the same bytes.
    """
    evidence = gather(tables)
    environment = _environment()
    script = environment.get_template("script.js.j2").render()
    lineage = table(tables, "lineage")
    pairs = table(tables, "preference_pairs")
    matrix_arms, matrix = win_matrix(evidence)
    missing_arms, missing = missing_parts(table(tables, "adherence"))
    shown = [suite for suite in evidence.suites if suite.headline]
    return environment.get_template("template.html.j2").render(
        model=model,
        constitution=constitution,
        spec=constitution_spec,
        format_text=_format_text(constitution_spec.format),
        has_format=constitution_spec.format is not None,
        contents=CONTENTS,
        verdict=verdict(evidence),
        caveats=caveats(evidence, tables),
        facts=_facts(tables, constitution_spec, model_spec, model),
        arms=ARMS,
        key_numbers=key_numbers(evidence, tables),
        levels={kind: [_level(one) for one in shown if one.kind == kind] for kind in ("alignment", "capability")},
        differences=_differences(shown),
        difference_rows=difference_rows([*evidence.adherence, *evidence.suites]),
        pair_names=pair_names(),
        adherence=[_level(measure) for measure in evidence.adherence],
        missing=missing,
        missing_arms=missing_arms,
        matrix_arms=matrix_arms,
        matrix=list(zip(matrix_arms, matrix, strict=True)),
        asked=sections.side_by_side(table(tables, "qualitative"), table(tables, "prompts")),
        curves=_curves(table(tables, "training_metrics")),
        trained=sections.trained_rows(table(tables, "models")),
        agreement=sections.agreement_rows(table(tables, "judge_agreement")),
        kinds=sections.verdict_kinds(table(tables, "judgments")),
        verdict_names=sections.VERDICTS,
        pairs=sections.pair_samples(pairs),
        pair_summary=_pair_summary(pairs),
        lineage=sections.lineage_rows(lineage),
        spent=sections.spent(lineage),
        source=_source(model_spec),
        commands=_commands(model, constitution, model_spec),
        generated_at=generated_at.astimezone(UTC).strftime("%d %B %Y, %H:%M UTC"),
        style=Markup(environment.get_template("style.css.j2").render(light=LIGHT, dark=DARK)),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def markdown_preview(tables: Mapping[str, pd.DataFrame]) -> str:
    """The verdict and the key numbers as short Markdown, for the metadata that Dagster's UI shows."""
    evidence = gather(tables)
    lines = [verdict(evidence).sentence]
    rows = key_numbers(evidence, tables)
    if rows:
        lines += ["", "| | " + " | ".join(label(arm) for arm in ARMS) + " |", "|---" + "|---:" * len(ARMS) + "|"]
    for row in rows:
        texts = [
            f"{one.text} ({one.interval})" if one and one.interval else one.text if one else "–" for one in row.cells
        ]
        lines.append(f"| {row.name} | " + " | ".join(texts) + " |")
    return "\n".join(line.replace("<", "&lt;") for line in lines)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rlaif_dagster", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "label": label,
        "sources": sections.sources,
        "groupby_order": _grouped,
        "category": sections.category_name,
    }
    return environment


def _grouped(rows: Iterable[Any], attribute: str) -> list[tuple[Any, list[Any]]]:
    """Neighbouring rows that share an attribute; unlike Jinja2's own groupby it keeps the order."""
    return [(value, list(group)) for value, group in groupby(rows, key=lambda row: getattr(row, attribute))]


def _level(measure: Measure) -> Drawing:
    svg = inline(plots.levels(measure), f"level-{_slug(measure.key)}", plots.describe(measure))
    return Drawing(measure.name.capitalize() if measure.kind == "target" else measure.name, measure.detail, svg)


def _differences(measures: Sequence[Measure]) -> list[Drawing]:
    compared = [measure for measure in measures if measure.compared(ARMS)]
    limit = plots.difference_limit(compared)
    return [
        Drawing(
            measure.name,
            "",
            inline(
                plots.differences(measure, limit),
                f"difference-{_slug(measure.key)}",
                plots.describe_differences(measure),
            ),
        )
        for measure in compared
    ]


def _curves(metrics: pd.DataFrame) -> list[Drawing]:
    return [
        Drawing(
            panel.title,
            panel.hint,
            inline(
                plots.learning(curves, unit_of(panel.arm), zero=panel.zero),
                panel.key,
                plots.describe_learning(panel.title, curves),
            ),
        )
        for panel, curves in panels(metrics)
    ]


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in text)


def _facts(
    tables: Mapping[str, pd.DataFrame], constitution: Constitution, model_spec: ModelSpec, model: str
) -> list[tuple[str, str]]:
    """The setting in a few lines, for a reader who was not there."""
    prompts, pairs = table(tables, "prompts"), table(tables, "preference_pairs")
    judges = sorted({str(name) for name in table(tables, "judgments")["judge"].dropna()})
    splits = prompts["split"].value_counts()
    counts = [f"{splits[split]} {name}" for split, name in _SPLITS.items() if split in splits.index]
    facts = [
        ("Base model", f"{model}. {model_spec.description}".removesuffix(". ")),
        ("Principles", ", ".join(principle.id for principle in constitution.principles)),
        ("Judge", ", ".join(judges)),
        ("Prompts", ", ".join(counts)),
        ("Preference pairs", f"{len(pairs)}" if len(pairs) else ""),
        ("Arms", "base as it came; SFT on the preferred answers, the control; DPO; PPO on a reward model"),
    ]
    return [(name, value) for name, value in facts if value]


_SPLITS = {"train": "for training", "eval": "held out for measuring", "qualitative": "to be read by people"}


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


def _source(spec: ModelSpec) -> str:
    if spec.package:
        return f"package {spec.package.name} {spec.package.version}, {spec.package.file}, sha256 {spec.package.sha256}"
    return f"{spec.hub.repo} at revision {spec.hub.revision}" if spec.hub else f"folder {spec.folder}"


def _commands(model: str, constitution: str, spec: ModelSpec) -> str:
    cell = f"--model {shlex.quote(model)} --constitution {shlex.quote(constitution)}"
    lines = [
        f"rlaif models pull {shlex.quote(model)}",
        f"rlaif plan {cell}    # what would run and what it would cost",
        f"rlaif up {cell}",
        f"rlaif report {cell} --open",
        'rlaif sql "select arm, task, metric, value, ci_low, ci_high, n from benchmarks order by all"',
    ]
    return "\n".join(lines[1:] if spec.folder else lines)
