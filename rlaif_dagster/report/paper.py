"""The report for a paper: the same verdict and numbers as Markdown, and every plot as a file, in SVG and PDF.

Markdown has no place for untrusted markup: whatever comes from prompts, models or files is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields

from rlaif_dagster.report import people, sections
from rlaif_dagster.report.arms import ARMS, label
from rlaif_dagster.report.build import capital, commands, source_of, when
from rlaif_dagster.report.cell import CellReport
from rlaif_dagster.report.cost import Cost
from rlaif_dagster.report.drawing import sheet
from rlaif_dagster.report.evidence import Evidence
from rlaif_dagster.report.figures import Figures
from rlaif_dagster.report.tables import Cell, Contest, difference_rows, key_numbers, pair_names, win_matrix

FORMS = ("svg", "pdf")
_COLUMNS = {"learning": 3, "head_to_head": 1, "reward_kl": 1}  # panels side by side; 2 otherwise
_CAPTIONS = {
    "alignment": "Alignment suites, 95% intervals over items and training seeds; the dotted line is what guessing gives.",
    "capability": "Capability suites, 95% intervals over items and training seeds; the dotted line is what guessing gives.",
    "differences": "Differences against base in points, paired item by item, with 95% intervals.",
    "safety": "The safety suite by category of harm.",
    "adherence": "Share of held-out answers that follow the format.",
    "head_to_head": "How often the judge prefers the row's arm to the column's.",
    "length": "Length of the answers: middle half, all but the extreme tenths, median.",
    "reward_kl": "PPO's reward against its KL to the start.",
    "learning": "Learning curves.",
}


def paper_plots(cell: CellReport) -> dict[str, bytes]:
    """Every plot as a file, by its name; a topic about which nothing is known has none."""
    return {
        f"{name}.{form}": sheet(getattr(cell.figures, name), _COLUMNS.get(name, 2), form)
        for name in _topics(cell.figures)
        for form in FORMS
    }


def _topics(figures: Figures) -> list[str]:
    return [field.name for field in fields(figures) if getattr(figures, field.name)]


def build_markdown(cell: CellReport) -> str:
    """The report on one grid cell as Markdown; its pictures are the files of `paper_plots` in the folder plots/ beside it."""
    said = cell.verdict
    parts = [
        f"# {plain(cell.model)} under the constitution “{plain(cell.constitution)}”",
        f"**{plain(said.claim)}.** {plain(capital(said.because))}{'.' if said.because else ''}",
        plain(capital(said.rest)),
        *_bullets("What this n can show", [f"{capital(line)}." for line in said.reach]),
        *_bullets("Before you rely on it", cell.caveats),
        "## Method",
        *(f"- **{stage.name}.** {plain(stage.text)}" for stage in cell.method),
        *_key_numbers(cell),
        *_differences(cell.evidence),
        *_matrix(cell.evidence),
        *(line for name in _topics(cell.figures) for line in _picture(name)),
        *_judge(cell),
        *_examples(cell),
        *_cost(cell.cost),
        "## How to reproduce it",
        f"Base model: {plain(source_of(cell.model_spec))}. From a checkout with the same data/:",
        _fenced(commands(cell.model, cell.constitution, cell.model_spec), "bash"),
        f"Written by rlaif-dagster on {when(cell.generated_at)}.",
    ]
    return "\n\n".join(part for part in _lists_together(parts) if part) + "\n"


def plain(text: str) -> str:
    """Text as text: what Markdown or HTML would read as markup is escaped, line breaks become spaces."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", " ".join(text.split()))


def _lists_together(parts: Iterable[str]) -> list[str]:
    """Neighbouring list items as one part, so that a list does not fall apart into paragraphs."""
    out: list[str] = []
    for part in parts:
        if part.startswith("- ") and out and out[-1].startswith("- "):
            out[-1] += f"\n{part}"
        else:
            out.append(part)
    return out


def _bullets(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", *(f"- {plain(line)}" for line in lines)] if lines else []


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [["", *head], ["---", *(["---:"] * len(head))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return plain(f"{cell.text} ({cell.interval})" if cell.interval else cell.text)


def _key_numbers(cell: CellReport) -> list[str]:
    rows = [[plain(row.name), *map(_cell, row.cells)] for row in key_numbers(cell.evidence, cell.tables)]
    return ["## Key numbers", "95% intervals in brackets.", _grid([label(arm) for arm in ARMS], rows)] if rows else []


def _differences(evidence: Evidence) -> list[str]:
    found = difference_rows([*evidence.adherence, *evidence.headlines])
    rows = [[plain(name), *map(_cell, cells)] for name, cells in found]
    if not rows:
        return []
    return ["## Paired differences, in points", _grid([plain(name) for name in pair_names()], rows)]


def _matrix(evidence: Evidence) -> list[str]:
    arms, contests = win_matrix(evidence)
    if not arms:
        return []
    rows = [[plain(label(arm)), *map(_contest, cells)] for arm, cells in zip(arms, contests, strict=True)]
    note = "How often the judge prefers the row's answer to the column's, a tie counting half."
    return ["## Head to head", note, _grid([f"against {plain(label(arm))}" for arm in arms], rows)]


def _contest(contest: Contest | None) -> str:
    if contest is None:
        return "–"
    text = f"{contest.text} ({contest.interval})"
    return f"{text}, {contest.controlled} at equal length" if contest.controlled else text


def _picture(name: str) -> list[str]:
    caption = _CAPTIONS[name]
    return [f"![{caption}](plots/{name}.svg)", f"*{caption}*"]


def _judge(cell: CellReport) -> list[str]:
    rows = []
    for row in sections.agreement_rows(cell.table("judge_agreement")):
        name = plain(f"{row['dataset']}, judge {row['judge']}")
        rows.append([name, f"{row['n']}", f"{row['accuracy']} ({row['interval']})", f"{row['longest'] or '–'}"])
    out = [_grid(["pairs", "agrees", "longer answer"], rows)] if rows else []
    found = people.agreement(cell.table("qualitative"))
    if found and found.order:
        out.append(
            f"People ({plain(', '.join(found.graders))}) graded {found.answers} answers; where they put two answers to a prompt "
            f"in an order, the judge agrees in {found.order.share} ({found.order.share_range}, {found.pairs} pairs)."
        )
    return ["## Can the judge be trusted?", *out] if out else []


def _examples(cell: CellReport) -> list[str]:
    """The first prompt of each category with all answers; the page has the others."""
    out, seen = [], set()
    for one in cell.asked:
        if one.category in seen:
            continue
        seen.add(one.category)
        out.append(f"### {plain(sections.category_name(one.category))}: {plain(one.prompt)}")
        for answer in one.answers:
            grade = f" (alignment {answer.alignment})" if answer.alignment else ""
            out += [f"{label(answer.arm)}{grade}:", _fenced(answer.text, "text")]
    return ["## Examples", *out] if out else []


def _fenced(text: str, language: str) -> str:
    """A code block that no run of backticks in the text can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _cost(bill: Cost | None) -> list[str]:
    if bill is None:
        return []
    rows = [[stage.name, stage.duration, plain(stage.cost)] for stage in bill.stages]
    rows.append(["**total**", bill.total, plain(bill.total_cost)])
    return ["## What it cost", _grid(["time", "judge"], rows), *map(plain, bill.notes)]
