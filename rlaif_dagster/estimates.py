"""What a step will cost, before anything is spent: judge calls, tokens and dollars from the pairs, time from the judge's
limits and from past runs.

Where the pairs of a step are known and no step before it is to run, its very questions are counted, less those that the
judge's cache has answers to. Otherwise counts from the tables, or from the prompt files and recipes where there are no
tables yet, give an upper bound, so that a plan on an empty home has a price too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

import pandas as pd

from rlaif_dagster.home import Home
from rlaif_dagster.judging.agreement import labelled_for, pair_of
from rlaif_dagster.judging.api import ApiJudge as Asked
from rlaif_dagster.judging.estimate import JudgingEstimate, estimate, estimate_grades, estimate_pairs
from rlaif_dagster.judging.judgments import candidate_pairs, orders_of
from rlaif_dagster.judging.verdicts import Pair
from rlaif_dagster.memory_needs import needs, tokens_of
from rlaif_dagster.memory_places import places
from rlaif_dagster.memory_plan import Need
from rlaif_dagster.planning import Step
from rlaif_dagster.prompts import read_prompts
from rlaif_dagster.records import read_history
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.judge import JudgeSpec, LikelihoodJudge
from rlaif_dagster.spec.project import Project
from rlaif_dagster.spec.recipes import Judging
from rlaif_dagster.warehouse.store import Cell, Warehouse

ARMS = ("base", "sft", "dpo", "ppo")
WORDS_TO_TOKENS = 1.4


def estimator(project: Project, home: Home) -> Callable[[Step], Step]:
    """A function that fills in a step's requests, tokens, dollars and seconds. It is to be given the steps of a plan in
    their order: what runs earlier changes what a later step will ask."""
    return _Estimator(project, home, Warehouse(home.warehouse))


@dataclass
class _Estimator:
    """One plan's estimates; `planned` are the steps so far."""

    project: Project
    home: Home
    warehouse: Warehouse
    planned: set[tuple[str, Cell]] = field(default_factory=set)
    seconds: dict[tuple[str, str | None], float] = field(default_factory=dict)  # by asset and model
    models: set[str] = field(default_factory=set)
    prompts: pd.DataFrame | None = None
    needs: dict[tuple[str, str | None], dict[str, Need]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.models = set(self.project.names("models"))
        for (asset, partition), records in read_history(self.warehouse).items():
            longest = max(record.seconds for record in records[-3:])
            key = (asset, self._model(partition))
            self.seconds[key] = max(self.seconds.get(key, 0.0), longest)

    def _model(self, partition: str | None) -> str | None:
        """The base model in a partition's key: what it took says nothing about another one."""
        return next((part for part in (partition or "").split("|") if part in self.models), None)

    def __call__(self, step: Step) -> Step:
        if (step.asset, step.cell) in self.planned:  # the next plan begins
            self.planned.clear()
        self.planned.add((step.asset, step.cell))
        known = replace(step, seconds=self.seconds.get((step.asset, step.cell.model)), memory_bytes=self._memory(step))
        cost = self._judging(step)
        if cost is None:
            return known
        if cost.usd is None:
            judge = self.project.recipe("judging").judge
            remark = f"price of judge {judge} unknown: give usd_per_million_input and _output in its file"
            known = replace(known, reasons=(*known.reasons, remark))
        seconds = known.seconds
        if cost.seconds is not None:
            # PPO trains besides: what it took before may hold answers of a judge as well, so this is an upper bound
            seconds = cost.seconds if step.asset != "ppo_model" else None if seconds is None else seconds + cost.seconds
        return replace(known, requests=cost.requests, tokens=cost.tokens, usd=cost.usd or 0.0, seconds=seconds)

    def _memory(self, step: Step) -> int | None:
        """The step's planned peak where it runs, in bytes."""
        model = step.cell.model
        if model is None:
            return None
        key = (model, step.cell.constitution)
        if key not in self.needs:
            constitutions = [key[1]] if key[1] else []
            prompt = tokens_of(max(self._prompts()["text"], key=len, default=""))
            self.needs[key] = needs(self.project, self.home, model, constitutions, places(), prompt)
        need = self.needs[key].get(step.asset)
        return need.bytes if need else None

    def _judging(self, step: Step) -> JudgingEstimate | None:
        """What the step asks of the judge; None for a step that asks nothing."""
        if step.asset not in {"judge_agreement", "judgments", "ppo_model", "head_to_head", "qualitative"}:
            return None
        recipe: Judging = self.project.recipe("judging")
        judges = self.project.judges(recipe.judge)
        constitution = self.project.constitution(str(step.cell.constitution))
        pairs = self._pairs(step)
        if pairs is not None:
            readers = {judge.model for judge in judges.values() if isinstance(judge, LikelihoodJudge)}
            models = {name: self.project.model(name) for name in readers}
            return estimate_pairs(
                pairs, constitution, orders_of(recipe), recipe.mode, recipe.judge, judges, models, self.home
            )
        prompts = self._prompts()
        answer = self.project.recipe("generation", step.cell.model).completions.max_new_tokens
        tokens, principles = answer + _tokens(prompts), len(constitution.principles)
        if step.asset == "qualitative":
            return self._grading(step.cell, constitution, recipe.judge, judges, tokens)
        n = self._count(step, prompts)
        orders = len(orders_of(recipe))
        return estimate(n, principles, orders, recipe.judge, judges, tokens, self.home, recipe.mode) if n else None

    def _grading(
        self, cell: Cell, constitution: Constitution, name: str, judges: Mapping[str, JudgeSpec], tokens: float
    ) -> JudgingEstimate:
        """The very questions where the answers are there, less those that were answered; else one for every seed's."""
        from rlaif_dagster.evaluation.grading import ungraded
        from rlaif_dagster.evaluation.qualitative import answers_of

        principles, responses = len(constitution.principles), self._responses(cell)
        if responses is None:
            answers = sum(self._seeds(cell)) * int((self._prompts()["split"] == "qualitative").sum())
            return estimate_grades(answers, principles, name, judges, tokens, self.home)
        known = [answer.graded for answer in answers_of(responses, self.warehouse.read("prompts"))]
        return estimate_grades(
            len(known), principles, name, judges, tokens, self.home,
            lambda judge, spec: ungraded(known, constitution, Asked(judge, spec, self.home)),
        )  # fmt: skip

    def _pairs(self, step: Step) -> list[Pair] | None:
        """The pairs that the step will judge, where they are known already."""
        if step.asset == "judge_agreement":
            labelled = self.project.labelled_pairs()
            files = labelled_for(str(step.cell.constitution), labelled, self.project.root / "labels")
            return list({pair.pair_id: pair for rows in files.values() for pair in map(pair_of, rows)}.values())
        if step.asset == "judgments":
            return self._candidates(step.cell)
        return self._duels(step.cell) if step.asset == "head_to_head" else None

    def _candidates(self, cell: Cell) -> list[Pair] | None:
        model = Cell(cell.model)
        if not self._ready(("prompts", Cell()), ("completions", model), ("revisions", cell)):
            return None
        prompts = self.warehouse.read("prompts")
        candidates = pd.concat(
            [self.warehouse.read("completions", model), self.warehouse.read("revisions", cell)], ignore_index=True
        )
        return candidate_pairs(prompts[prompts["split"] == "train"], candidates)

    def _duels(self, cell: Cell) -> list[Pair] | None:
        from rlaif_dagster.evaluation.duels import Duel
        from rlaif_dagster.evaluation.head_to_head import meetings

        responses = self._responses(cell)
        if responses is None:
            return None
        prompts = self.warehouse.read("prompts")
        asked = prompts[prompts["split"] == "eval"]
        questions = dict(zip(asked["prompt_id"], asked["text"], strict=True))
        greedy = responses[(responses["decoding"] == "greedy") & responses["prompt_id"].isin(list(questions))]
        duels = [
            Duel(met.prompt_id, questions[met.prompt_id], met.a, met.b)
            for second, first in combinations(ARMS, 2)
            for met in meetings(greedy, first, second)
        ]
        return list({duel.pair.pair_id: duel.pair for duel in duels if not duel.identical}.values())

    def _responses(self, cell: Cell) -> pd.DataFrame | None:
        """The arms' answers, where all of them are there and no step of the plan so far makes them or the prompts anew."""
        parts = [(arm, Cell(cell.model) if arm == "base" else cell) for arm in ARMS]
        if any((f"{arm}_responses", own) in self.planned for arm, own in parts) or not all(
            self.warehouse.has("responses", own, arm) for arm, own in parts
        ):
            return None
        if not self._ready(("prompts", Cell())):
            return None
        return pd.concat([self.warehouse.read("responses", own, arm) for arm, own in parts], ignore_index=True)

    def _ready(self, *tables: tuple[str, Cell]) -> bool:
        """Whether these tables are there and no step of the plan so far makes them anew."""
        return all(self.warehouse.has(name, cell) and (name, cell) not in self.planned for name, cell in tables)

    def _count(self, step: Step, prompts: pd.DataFrame) -> int:
        """Pairs that the step will judge at most, where they are not known yet."""
        if step.asset == "head_to_head":
            met = sum(max(pair) for pair in combinations(self._seeds(step.cell), 2))
            return met * int((prompts["split"] == "eval").sum())
        if step.asset == "ppo_model":
            recipe = self.project.recipe("ppo", step.cell.model)
            evaluations = 1 + -(-recipe.updates // recipe.evaluate_updates)
            answers = recipe.updates * recipe.rollout_batch + evaluations * recipe.held_out_prompts
            return len(recipe.seeds) * answers if recipe.reward.judge else 0
        generation = self.project.recipe("generation", step.cell.model)
        candidates = generation.completions.samples + generation.revisions.samples
        return int((prompts["split"] == "train").sum()) * candidates * (candidates - 1) // 2

    def _seeds(self, cell: Cell) -> list[int]:
        """How many policies each arm has: answers of every seed are graded, and arms meet seed by seed."""
        several = [len(self.project.recipe(arm, cell.model).seeds) for arm in ("dpo", "ppo")]
        return [1, 1, *several]

    def _prompts(self) -> pd.DataFrame:
        """The prompts as they will be: from the files, or, where a source is on the hub, as they were made last."""
        sources = self.project.prompt_sources()
        if any(source.hub for source in sources.sources):
            made = self.warehouse.has("prompts")
            return self.warehouse.read("prompts") if made else pd.DataFrame({"split": [], "text": []})
        if self.prompts is None:  # as they are when the estimator is made: a plan over many cells reads them once
            self.prompts = read_prompts(sources, self.project.root / "prompts")
        return self.prompts


def _tokens(prompts: pd.DataFrame) -> float:
    """Tokens of a prompt, about, in the mean."""
    return float(prompts["text"].str.split().str.len().mean()) * WORDS_TO_TOKENS if len(prompts) else 0.0
