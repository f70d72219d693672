"""`rlaif judge`: one prompt and two answers before the judge, to see what it is asked, what it says and what that costs.

The answers come from the same cache, and go into it, as those of a study: asking again is free.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlaif_dagster.cli.cells import ConstitutionsOption, select
from rlaif_dagster.cli.screen import results
from rlaif_dagster.cli.wording import count, dollars
from rlaif_dagster.errors import UserError, visible

if TYPE_CHECKING:
    from rich.table import Table

    from rlaif_dagster.judging.verdicts import Judge


def judge(
    prompt: Annotated[str, typer.Argument(help="The prompt; `@FILE` reads one.")],
    answer_a: Annotated[str, typer.Argument(help="An answer to it; `@FILE` reads one.")],
    answer_b: Annotated[str, typer.Argument(help="Another answer; `@FILE` reads one.")],
    constitution: ConstitutionsOption = None,
    judge_: Annotated[
        str | None, typer.Option("--judge", "-j", metavar="NAME", help="Name in data/judges. Default: the study's.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option("--mode", help="per_principle, joint or sampled. Default: data/recipes/judging.yaml."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", min=0, metavar="USD", help="Spend no more than this.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the requests and ask nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Verdicts, preference and requests as a JSON object.")] = False,
) -> None:
    """Judge two answers to a prompt: the verdict of each principle in each order, its price, and the exact requests."""
    chosen = select((), constitution)
    if len(chosen.constitutions) != 1:
        raise UserError(
            f"`rlaif judge` takes one constitution; choose with --constitution: {', '.join(chosen.constitutions)}"
        )
    asked, first, second = (_text(given) for given in (prompt, answer_a, answer_b))
    found = judged(
        asked, first, second, chosen.constitutions[0], name=judge_, mode=mode, budget=budget, dry_run=dry_run
    )
    if json:
        import json as writer

        typer.echo(writer.dumps(found, indent=2, ensure_ascii=False))
        return
    console = results()
    if not dry_run:
        console.print(verdict_table(found["verdicts"]))
        typer.echo(_summary(found))
    for request in found["requests"]:
        typer.echo(visible(_told(request), keep="\n"))


def judged(
    prompt: str,
    a: str,
    b: str,
    constitution: str,
    *,
    name: str | None = None,
    mode: str | None = None,
    budget: float | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Verdicts (in terms of A and B as they were given), the preference for A over all principles, and the requests.

    Raises UserError for an unknown judge or mode, equal answers, a missing key and a budget that does not suffice.
    """
    import pandas as pd

    from rlaif_dagster.hashing import content_hash
    from rlaif_dagster.judging.aggregate import preferences
    from rlaif_dagster.judging.judgments import orders_of
    from rlaif_dagster.judging.verdicts import make_pair
    from rlaif_dagster.spec.project import Project
    from rlaif_dagster.spec.recipes import Judging

    if a.strip() == b.strip():
        raise UserError("the two answers are the same; give two that differ")
    project = Project.current()
    recipe: Judging = project.recipe("judging")
    modes = ("per_principle", "joint", "sampled")
    if mode is not None and mode not in modes:
        raise UserError(f"--mode: found {mode!r}, allowed: {', '.join(modes)}")
    name, how = name or recipe.judge, mode or recipe.mode
    asked, law = _judge(project, name), project.constitution(constitution)
    prompt_id = content_hash(prompt)
    answers = [(content_hash(prompt_id, text), text) for text in (a, b)]
    pair = make_pair(prompt_id, prompt, answers[0], answers[1])
    swapped, orders = pair.a != a, orders_of(recipe)
    requests = [_request(one, swapped) for one in _requests(asked, pair, law, orders, how)]
    out: dict[str, Any] = {"judge": name, "constitution": constitution, "mode": how, "requests": requests}
    if dry_run:
        return out
    budgets = [limit for limit in (recipe.budget_usd, budget) if limit is not None]
    frame = asked.judge([pair], law, orders, mode=how, budget_usd=min(budgets, default=None))  # type: ignore[arg-type]
    p = preferences(frame, law)["p_a"].iloc[0]
    rows = frame[[
        "principle_id", "order", "verdict", "p_a", "tokens_in", "tokens_out", "cost_usd", "latency_ms", "cached", "raw",
    ]].to_dict("records")  # fmt: skip
    out["verdicts"] = [_in_terms_given({str(key): value for key, value in row.items()}, swapped) for row in rows]
    out["p_a"] = None if pd.isna(p) else float(1 - p if swapped else p)
    out["cost_usd"] = float(frame.loc[~frame["cached"].astype(bool), "cost_usd"].sum())
    return out


def _judge(project: Any, name: str) -> Judge:
    from rlaif_dagster.home import current_home
    from rlaif_dagster.judging.build import make_judge
    from rlaif_dagster.spec.judge import LikelihoodJudge

    judges = project.judges(name)
    readers = {spec.model for spec in judges.values() if isinstance(spec, LikelihoodJudge)}
    return make_judge(name, judges, {model: project.model(model) for model in readers}, current_home())


def _requests(asked: Any, pair: Any, law: Any, orders: Any, mode: Any) -> list[dict[str, Any]]:
    """What a judge, or each member of a panel, is given: principles, order and the request itself."""
    from rlaif_dagster.judging.panel import PanelJudge

    if isinstance(asked, PanelJudge):
        return [one for member, _ in asked.members for one in _requests(member, pair, law, orders, mode)]
    return [
        {"judge": asked.name, "principles": list(question.texts), "order": question.order, "request": request}
        for question, request in asked.requests([pair], law, orders, mode)
    ]


def _text(given: str) -> str:
    if not given.startswith("@"):
        return given
    path = Path(given[1:])
    if not path.is_file():
        raise UserError(f"{path}: no such file; write the text itself, or @FILE")
    return path.read_text(encoding="utf-8")


SWAPPED = {"a": "b", "b": "a", "ab": "ba", "ba": "ab"}


def _in_terms_given(row: dict[str, Any], swapped: bool) -> dict[str, Any]:
    """A verdict in terms of the answers as they were given: the pair puts the smaller id first."""
    import pandas as pd

    p = None if pd.isna(row["p_a"]) else float(row["p_a"])
    if not swapped:
        return row | {"p_a": p, "cached": bool(row["cached"])}
    turned = {key: SWAPPED.get(row[key], row[key]) for key in ("order", "verdict")}
    return row | turned | {"p_a": None if p is None else 1 - p, "cached": bool(row["cached"])}


def _request(one: dict[str, Any], swapped: bool) -> dict[str, Any]:
    return one | {"order": SWAPPED.get(one["order"], one["order"])} if swapped else one


def verdict_table(verdicts: list[dict[str, Any]]) -> Table:
    """A row a principle and order."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("principle", "order", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("p(A)", "tokens", "price"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what the judge said", overflow="fold")
    for row in verdicts:
        paid = "cached" if row["cached"] else dollars(row["cost_usd"])
        table.add_row(
            row["principle_id"],
            row["order"],
            row["verdict"].upper() if row["verdict"] in {"a", "b"} else row["verdict"],
            "" if row["p_a"] is None else f"{row['p_a']:.2f}",
            count(row["tokens_in"] + row["tokens_out"]),
            paid,
            Text(row["raw"]),
        )
    return table


def _summary(found: dict[str, Any]) -> str:
    p = found["p_a"]
    said = "no verdict" if p is None else f"p(A is better) = {p:.2f}"
    return f"{found['judge']} on {found['constitution']}: {said}; spent {dollars(found['cost_usd'])}"


def _told(one: dict[str, Any]) -> str:
    """A request for people: what is sent beside the messages as JSON, then the messages as they are."""
    import json

    request = dict(one["request"])
    messages = request.pop("messages", [])
    title = f"\n--- {one['judge']}, {', '.join(one['principles'])}, order {one['order']}"
    lines = [title, json.dumps(request, ensure_ascii=False)]
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            content = "\n".join(json.dumps(part, ensure_ascii=False) for part in content)
        lines.append(f"[{message['role']}]\n{content}")
    return "\n".join(lines)
