from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from rlaif_dagster.home import Home
from rlaif_dagster.report.build import CONTENTS, build_report, markdown_preview
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.warehouse.cell import cell_tables
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, Warehouse
from tests.rlaif_dagster.report.study import CONSTITUTION, MODEL, NAME, PLAIN, cell_report, store, study_tables

ATTACK = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"


def render(tables: dict[str, pd.DataFrame], spec: Constitution = CONSTITUTION, **changes: Any) -> str:
    return build_report(cell_report(tables, spec, **changes))


@pytest.fixture(scope="module")
def page() -> str:
    return render(study_tables())


class Outline(HTMLParser):
    """Ids, links, loaded addresses and scripts of a page; raises on tags that do not nest."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.scripts = 0
        self.images = 0
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self._open.append(tag)
        self.scripts += tag == "script"
        self.images += tag == "img"
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "xlink:href") and (value or "").startswith("#"):
                self.links.append((value or "")[1:])
            elif name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.loads.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def test_is_one_file_that_loads_nothing_and_whose_links_lead_somewhere(page: str) -> None:
    outline = Outline(page)
    assert outline.loads == []
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.links) <= set(outline.ids)
    assert len(page.encode()) < 2_000_000


def test_the_verdict_comes_first_and_every_section_follows(page: str) -> None:
    places = [page.index(f'id="{name}"') for name, _ in CONTENTS if name != "safety"]
    assert places == sorted(places)
    assert page.index("PPO did better than DPO") < page.index('id="numbers"')


def test_gives_the_same_bytes_from_what_the_warehouse_gives_back(page: str, home: Home) -> None:
    store(study_tables(), home)
    assert render(cell_tables(home, Cell(MODEL, NAME))) == page


def test_a_home_of_the_former_release_is_read_until_it_is_made_again(page: str, home: Home) -> None:
    """It graded an arm's first seed, named no seed, and pooled the seeds of head to head."""
    tables = study_tables()
    store(tables, home)
    warehouse, cell = Warehouse(home.warehouse), Cell(MODEL, NAME)
    for name, lacking in (("qualitative", ["seed"]), ("head_to_head", ["seed_a", "seed_b", "seed_share"])):
        path = warehouse.path(name, cell)
        stored = pq.read_table(path, partitioning=None)
        if name == "head_to_head":
            stored = stored.filter(pc.is_null(stored["seed_a"]))
        pq.write_table(stored.drop_columns(lacking), path)
    assert render(cell_tables(home, cell)) == page


def test_several_seeds_are_shown_and_told_apart() -> None:
    tables = study_tables()
    graded, contests = tables["qualitative"], tables["head_to_head"]
    again = graded[graded["arm"] == "dpo"].assign(
        seed=1, response="Said by <b>another</b> training.", alignment_grade=0.11
    )
    tables["qualitative"] = pd.concat([graded, again], ignore_index=True)
    more = contests[(contests["seed_a"] == 0) & (contests["arm_b"] == "dpo")].assign(seed_b=1, win_rate=0.25)
    tables["head_to_head"] = pd.concat([contests, more], ignore_index=True)
    page = render(tables)
    assert page.count("Said by &lt;b&gt;another&lt;/b&gt; training.") == 20
    assert page.count("<summary>The other seed</summary>") == 20
    assert page.count("<small>seed 0</small>") == 20
    assert "seeds 0, 1" in page
    assert "base over DPO" in page
    outline = Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    mean = (graded.loc[graded["arm"] == "dpo", "alignment_grade"].mean() + 0.11) / 2
    assert f"{mean:.2f}" in next(line for line in page.splitlines() if "alignment grade</th>" in line)


def test_model_output_is_shown_as_text() -> None:
    tables = study_tables()
    first = tables["qualitative"].index[0]
    for column in ("prompt", "response", "rationale", "grader", "category"):
        tables["qualitative"].loc[first, column] = ATTACK
    tables["prompts"].at[0, "reference"] = [ATTACK]
    tables["adherence"].loc[tables["adherence"]["missing"] == "Answer", "missing"] = ATTACK
    tables["judgments"]["principle_id"] = ATTACK
    tables["judge_agreement"]["dataset"] = ATTACK
    tables["lineage"].loc[0, ["asset", "data_version"]] = [ATTACK, ATTACK]
    for column in ("prompt", "chosen", "rejected"):
        tables["preference_pairs"][column] = ATTACK
    for name in ("benchmarks", "benchmark_items"):
        tables[name]["task"] = tables[name]["task"].str.replace("mmlu_mini", ATTACK)

    hostile = render(tables, model=ATTACK, constitution=ATTACK)

    outline = Outline(hostile)
    assert (outline.scripts, outline.images) == (1, 0)
    assert hostile.count("&lt;script&gt;document.title") > 10
    assert len(outline.ids) == len(set(outline.ids))


def test_a_policy_forbids_every_other_script_and_every_request(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert "default-src" in policy[1]
    assert "sha256-" in policy[1]
    assert "script-src &#39;unsafe-inline" not in policy[1]
    assert not re.search(r"\son\w+=", page)


@pytest.mark.parametrize(
    "empty",
    [
        ("prompts", "benchmark_items", "judge_agreement", "models"),
        ("preference_pairs", "benchmarks", "lineage"),
        ("judgments", "adherence", "responses"),
        ("head_to_head", "qualitative", "training_metrics"),
    ],
    ids=lambda names: names[0],
)
def test_any_table_may_be_empty_while_those_beside_it_are_not(empty: tuple[str, ...]) -> None:
    tables = study_tables()
    for name in empty:
        tables[name] = pd.DataFrame(columns=[column.name for column in TABLES[name].all_columns])
    page = render(tables)
    outline = Outline(page)
    assert set(outline.links) <= set(outline.ids)
    assert not re.search(r"\b(nan|None|NaT)\b", page.split("</style>")[1])


def test_without_any_table_the_page_still_says_what_is_missing() -> None:
    page = render({}, PLAIN)
    assert "DPO and PPO were not compared" in page
    assert "No benchmark was run." in page
    assert "prescribes no format that a program could check" in page
    assert "svg" not in page.split("</style>")[1]


def test_the_time_is_told_in_utc() -> None:
    page = render({}, generated_at=datetime(2026, 3, 14, 1, 9, tzinfo=timezone(timedelta(hours=2))))
    assert "13 March 2026, 23:09 UTC" in page
    assert render({}, generated_at=datetime(2026, 3, 13, 23, 9, tzinfo=UTC)) == page


def test_commands_name_the_cell_and_pull_only_what_can_be_pulled() -> None:
    assert "rlaif models pull smollm2-135m-instruct" in render({})
    page = render({}, model="my model", model_spec=ModelSpec(folder="/models/mine"))
    assert "models pull" not in page
    assert "rlaif up --model &#39;my model&#39; --constitution structured" in page


def test_the_preview_is_a_sentence_and_a_table() -> None:
    lines = markdown_preview(cell_report(study_tables())).splitlines()
    assert lines[0].startswith("PPO did better than DPO")
    assert lines[2:4] == ["| | base | SFT | DPO | PPO |", "|---|---:|---:|---:|---:|"]
    assert "| greedy adherence | 0% (0 to 6%) | 47% (35 to 59%) | 91% (81 to 96%) | 94% (85 to 98%) |" in lines
    assert markdown_preview(cell_report({})).count("\n") == 0


def test_a_large_study_stays_under_six_megabytes() -> None:
    tables = study_tables()
    rows = tables["qualitative"]
    many = pd.concat([rows.assign(prompt_id=rows["prompt_id"] + str(i)) for i in range(20)], ignore_index=True)
    many["response"] = "Überlegung " * 900  # some ten thousand characters, as a long answer has
    curves = tables["training_metrics"]
    seeds = [curves.assign(seed=seed, step=curves["step"] * 400 + k) for seed in range(5) for k in range(40)]
    page = render(tables | {"qualitative": many, "training_metrics": pd.concat(seeds, ignore_index=True)})
    assert len(page.encode()) < 6_000_000
    shown = page.count('class="asked"')
    assert 20 < shown < 400
    assert f"{400 - shown} more are left out" in page
