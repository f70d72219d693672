from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rlaif_dagster.report.files import write_report
from rlaif_dagster.report.paper import build_markdown, paper_plots, plain
from tests.rlaif_dagster.report.study import cell_report, study_tables

TOPICS = {"alignment", "capability", "differences", "adherence", "head_to_head", "length", "reward_kl", "learning"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("report") / "report.html"
    (page.parent / "plots").mkdir()
    (page.parent / "plots" / "of_another_time.svg").write_text("<svg/>")
    write_report(page, cell_report(study_tables()))
    return page.parent


def test_the_files_of_a_paper_lie_beside_the_page(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"report.html", "report.md", "plots"}
    assert {path.name for path in (folder / "plots").iterdir()} == {
        f"{topic}.{form}" for topic in TOPICS for form in ("svg", "pdf")
    }


def test_plots_are_whole_files_with_colours_of_their_own(folder: Path) -> None:
    for path in (folder / "plots").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "var(--" not in text
    for path in (folder / "plots").glob("*.pdf"):
        assert path.read_bytes().startswith(b"%PDF-")


def test_plots_are_the_same_bytes_from_the_same_tables(folder: Path) -> None:
    for name, content in paper_plots(cell_report(study_tables())).items():
        assert (folder / "plots" / name).read_bytes() == content, name


def test_the_markdown_says_what_the_page_says_and_its_pictures_are_there(folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith(
        "# smollm2-135m-instruct under the constitution “structured”\n\n**PPO did better than DPO, one training run each.**"
    )
    assert "| greedy adherence | 0% (0 to 6%) | 47% (35 to 59%) | 91% (81 to 96%) | 94% (85 to 98%) |" in text
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(pictures) == len(TOPICS)
    assert all((folder / picture).exists() for picture in pictures)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_untrusted_text_is_no_markup() -> None:
    attack = "<script>alert(1)</script> | **bold** [link](javascript:x)\n# head ``` out\n```"
    assert plain(attack).count("\\") == len(re.findall(r"[\\`*_{}\[\]<>#|~$&]", attack))
    tables = study_tables()
    tables["qualitative"][["prompt", "response", "category"]] = attack
    text = build_markdown(cell_report(tables, model=attack))
    outside = re.sub(r"^(````+)(?:text|bash)\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "````text" in text
    assert not re.search(r"(?<!\\)<script", outside)
    assert not re.search(r"^# head", outside, re.MULTILINE)


def test_a_cell_without_tables_has_no_plots_and_still_a_text() -> None:
    empty = cell_report({})
    assert paper_plots(empty) == {}
    assert "**DPO and PPO were not compared.**" in build_markdown(empty)
