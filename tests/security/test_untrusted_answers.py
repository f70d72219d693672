"""What judges and models write is shown as text: in the terminal, in Markdown that the UI renders, in results and files.

The HTML report is attacked beside its own tests (`tests/rlaif_dagster/report`), in a real browser too.
"""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from assets.shown import preview
from rlaif_dagster.cli.screen import results
from rlaif_dagster.errors import visible
from rlaif_dagster.evaluation.grade_question import read_grade
from rlaif_dagster.home import Home
from rlaif_dagster.judging.parsing import parse, parse_joint
from rlaif_dagster.starter import make_study
from rlaif_dagster.warehouse.sql import query
from rlaif_dagster.warehouse.store import Warehouse
from tests.rlaif_dagster.judging.chat_server import ChatServer, Reply, says, serving

ESCAPES = (
    "\x1b[2J\x1b]0;owned\x07\x1b]8;;http://evil.example\x07link\x1b]8;;\x07 \x9b2J \u202egpj.exe \x08\x08 \r hidden"
)
MARKDOWN = (
    "![x](http://evil.example/pixel.png) [click](javascript:alert(1)) <img src=http://evil.example/p onerror=alert(1)> "
    "| new | cell | `code` \\| <script>alert(1)</script> <http://evil.example> &lt;b&gt; **bold** $x$"
)


def hostile(request: dict, number: int) -> Reply:
    return says(json.dumps({"reason": ESCAPES + MARKDOWN, "verdict": "A"}, ensure_ascii=False))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(hostile) as running:
        yield running


def on_a_terminal(command: list[str], cwd: Path, environment: dict[str, str]) -> str:
    """What the command writes where its output is a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=follower, stderr=follower, stdin=subprocess.DEVNULL
    )
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(leader)
    process.wait(60)
    return written.decode("utf-8", errors="replace")


def test_a_judge_cannot_drive_the_terminal(server: ChatServer, tmp_path: Path) -> None:
    study = make_study(tmp_path / "mine", ["honesty"])
    (study / "data/judges/hostile.yaml").write_text(
        f"kind: api\nmodel: openai/x\napi_base: {server.url}\nusd_per_million_input: 0\nusd_per_million_output: 0\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RLAIF_")} | {
        "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color", "COLUMNS": "200", "OPENAI_API_KEY": "none",
    }  # fmt: skip
    rlaif = [sys.executable, "-m", "rlaif_dagster.cli.main"]
    judge = [*rlaif, "judge", f"Is it?{ESCAPES}", f"No.{ESCAPES}", "Yes.", "--judge", "hostile"]
    shown = on_a_terminal(judge, study, environment)
    assert "p(A is better)" in shown, shown[-2000:]
    assert "\\x1b[2J\\x1b]0;owned\\x07" in shown.replace("\r\n", "").replace(" ", "")
    for sequence in ("\x1b[2J", "\x1b]0;", "\x1b]8;;http", "\x07", "\x9b", "\u202e", "\x08"):
        assert sequence not in shown
    asked = on_a_terminal([*rlaif, "sql", f"select '{ESCAPES}' as said", "--format", "csv"], study, environment)
    table = on_a_terminal([*rlaif, "sql", f"select '{ESCAPES}' as said"], study, environment)
    for text in (asked, table):
        assert "owned" in text
        assert "\x1b]0;" not in text
        assert "\x1b[2J" not in text


def test_the_terminals_own_colours_stay(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    results().print("[bold]sure[/bold]", end="")
    assert capsys.readouterr().out == "\x1b[1msure\x1b[0m"


def test_a_cell_that_looks_like_markup_of_the_terminal_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlaif_dagster.cli.judge import verdict_table

    said = "[/bold][link=http://evil.example]x[/link]"
    row = {
        "principle_id": "a", "order": "ab", "verdict": "a", "p_a": 1.0, "tokens_in": 1, "tokens_out": 1, "cost_usd": 0.0,
        "cached": True, "raw": said,
    }  # fmt: skip
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", "200")
    console = results()
    with console.capture() as captured:
        console.print(verdict_table([row]))
    assert said in captured.get()


def test_nothing_in_a_preview_is_more_than_text() -> None:
    """Rendered by a CommonMark parser with tables, and HTML let through: neither image, link nor tag comes of it."""
    from markdown_it import MarkdownIt

    frame = pd.DataFrame({"raw": [MARKDOWN, ESCAPES, f"{'x' * 100}{MARKDOWN}"], "n": [1, 2, 3]})
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(preview(frame))
    inline = [child for token in tokens for child in token.children or []]
    kinds = {token.type for token in [*tokens, *inline]}
    assert not {"image", "link_open", "html_inline", "html_block", "code_inline", "strong_open", "fence"} & kinds
    assert sum(token.type == "td_open" for token in tokens) == 6
    assert "![x](http://evil.example/pixel.png)" in "".join(
        token.content for token in inline if token.type in ("text", "text_special")
    )
    assert visible(preview(frame), keep="\n") == preview(frame)


def test_tables_and_json_keep_what_was_said_to_the_letter(home: Home) -> None:
    rows = pd.DataFrame([{
        "prompt_id": "1", "split": "train", "category": "factual", "text": ESCAPES, "reference": None, "source": "x",
    }])  # fmt: skip
    Warehouse(home.warehouse).write("prompts", rows)
    [row] = json.loads(query(home, "from prompts", "json"))
    assert row["text"] == ESCAPES
    assert "\x1b" not in str(query(home, "from prompts", "table"))


@pytest.mark.parametrize(
    "text",
    [
        '{"reason": ' + "[" * 5000,
        '{"a": ' * 5000,
        '{"alignment": ' + "9" * 5000 + ', "verdict": ' + "9" * 5000 + "}",
        '{"reason": ' + "[" * 900 + "]" * 900 + ', "verdict": ' + "[" * 900 + "]" * 900 + "}",
        '{"verdict": ' + "[" * 900 + '"perhaps"' + "]" * 900 + "}",
        "-" * 200_000,
        "_" * 200_000 + "?",
        "answer " * 50_000,
        "[[" * 100_000,
        '"verdict"' + " " * 200_000,
    ],
    ids=lambda text: f"{text[:12]} {len(text)}",
)
def test_an_answer_that_no_parser_can_hold_is_unparseable_and_soon(text: str) -> None:
    before = time.process_time()
    assert parse(text, shown=("Yes.", "No.")) == "unparseable"
    assert parse_joint(text, ["plain"], shown=("Yes.", "No.")) == {"plain": "unparseable"}
    assert read_grade(text).alignment is None
    assert time.process_time() - before < 5  # quadratic, it would be minutes


def test_such_an_answer_ends_no_command(tmp_path: Path) -> None:
    """Nor the next one, which finds it among the answers that are kept."""
    study = make_study(tmp_path / "mine", ["honesty"])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RLAIF_")} | {
        "PYTHONPATH": os.pathsep.join(sys.path), "OPENAI_API_KEY": "none",
    }  # fmt: skip
    with serving(lambda request, number: says('{"reason": ' + "[" * 5000)) as server:
        (study / "data/judges/deep.yaml").write_text(
            f"kind: api\nmodel: openai/x\napi_base: {server.url}\nusd_per_million_input: 0\nusd_per_million_output: 0\n"
        )
        for _ in range(2):
            judge = [
                sys.executable,
                "-m",
                "rlaif_dagster.cli.main",
                "judge",
                "Is it?",
                "No.",
                "Yes.",
                "--judge",
                "deep",
            ]
            done = subprocess.run(judge, cwd=study, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "unparseable" in done.stdout
