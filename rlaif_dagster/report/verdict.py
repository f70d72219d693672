"""The verdict: one sentence that a reader who was not there can repeat.

Which of DPO and PPO did better, what was gained over base and over SFT, what capability was lost, with numbers. Who did
better is asked of several measures at once, and any of them may answer: a difference counts when its interval excludes
zero (for a win rate, one half) after Bonferroni's correction for how many there are. One that excludes it only before the
correction is called a leaning. Everything else is said to be not distinguishable, with the n that it would take. Nothing is
rounded up: arms that failed to beat base are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlaif_dagster.report.arms import ARMS, POLICIES, label
from rlaif_dagster.report.estimate import MINUS, Estimate, joined
from rlaif_dagster.report.evidence import Evidence, Measure

Standing = Literal["better", "worse", "split", "even", "unknown"]

_ONE = {
    "better": "beat {other}",
    "worse": "fell below {other}",
    "split": "beat {other} on one measure and fell below it on another",
    "even": "is not distinguishable from {other}",
    "unknown": "was not compared with {other}",
}
_BOTH = {
    "better": "both beat {other}",
    "worse": "both fell below {other}",
    "split": "both beat {other} on one measure and fell below it on another",
    "even": "neither is distinguishable from {other}",
    "unknown": "neither was compared with {other}",
}


@dataclass(frozen=True)
class Finding:
    """One measure of one arm against another, from the first arm's side: 1, -1 or 0 with all measures of the comparison
    taken together, the same for this one alone (`leaning`), the numbers in words, and what as many items can show."""

    by: str
    sign: int
    leaning: int
    text: str
    reach: str


@dataclass(frozen=True)
class Verdict:
    """The sentence in its parts: the claim about DPO and PPO and its reasons, what was gained, what was lost; `reach` says
    what so many items can show where they showed nothing."""

    claim: str
    because: str
    gained: str
    lost: str
    reach: tuple[str, ...] = ()

    @property
    def better(self) -> str:
        """The claim with its reasons."""
        return f"{self.claim}: {self.because}" if self.because else self.claim

    @property
    def rest(self) -> str:
        """What follows the first part."""
        return "; ".join((self.gained, self.lost)) + "."

    @property
    def sentence(self) -> str:
        return f"{self.better}; {self.rest}"


def verdict(evidence: Evidence) -> Verdict:
    """The verdict on one grid cell."""
    claim, because, reach = _better(evidence)
    return Verdict(claim, because, _gained(evidence), _lost(evidence), reach)


def findings(evidence: Evidence, arm: str, other: str) -> list[Finding]:
    """What says whether `arm` did better than `other`: the judge's preference and, where there is a format, adherence."""
    measures = [measure for measure in evidence.adherence if (arm, other) in measure.differences]
    wins = evidence.wins.get((arm, other))
    looks = len(measures) + (wins is not None)
    found = []
    for measure in measures:
        difference = measure.differences[arm, other]
        mine, theirs = measure.estimates[arm], measure.estimates[other]
        text = f"{measure.name} {mine.share} against {theirs.share} ({difference.points}, {difference.points_range})"
        reach = _reach(measure.name, difference, 0.0)
        found.append(Finding(measure.name, difference.sign_among(looks), difference.sign(), text, reach))
    if wins is not None:
        rate = wins.rate
        text = f"the judge preferred {label(arm)} to {label(other)} on {rate.share} of prompts ({rate.share_range})"
        reach = _reach("the judge's preference", rate, 0.5)
        found.append(Finding("the judge", rate.sign_among(looks, 0.5), rate.sign(0.5), text, reach))
    return found


def _reach(name: str, seen: Estimate, zero: float) -> str:
    """What as many items could have shown, and how many it would take; empty where the spread is not known."""
    if not seen.has_interval or seen.high <= seen.low:
        return ""
    smallest = max(1, round(100 * seen.detectable()))
    text = f"{name}: {seen.n:,} prompts reveal differences from {smallest} point{'s' if smallest > 1 else ''} up (80% power)"
    gap = round(100 * abs(seen.value - zero))
    if seen.between_seeds:
        return (
            f"{text}; most of the uncertainty is between training seeds: more seeds would tell more than more prompts"
        )
    needed = seen.items_needed(zero)
    if needed is None or not gap:
        return text
    return f"{text}; to confirm the {gap} seen would take about {_round(needed)}"


def _round(count: int) -> str:
    """Two digits: more would pretend to know the spread."""
    digits = max(0, len(str(count)) - 2)
    return f"{round(count, -digits):,}"


def standing(found: list[Finding]) -> Standing:
    """The measures taken together; `split` when they contradict each other."""
    if not found:
        return "unknown"
    signs = {finding.sign for finding in found} - {0}
    if not signs:
        return "even"
    if len(signs) == 2:
        return "split"
    return "better" if signs == {1} else "worse"


def _better(evidence: Evidence) -> tuple[str, str, tuple[str, ...]]:
    """The claim about the two policies, its reasons, and what this n can show."""
    first, second = POLICIES
    a, b = label(first), label(second)
    found = findings(evidence, first, second)
    mirrored = findings(evidence, second, first)
    for_first = [finding.text for finding in found if finding.sign > 0]
    for_second = [finding.text for finding in mirrored if finding.sign > 0]
    reach = tuple(finding.reach for finding in found if not finding.sign and finding.reach)
    runs = _runs(evidence)
    match standing(found):
        case "unknown":
            return f"{a} and {b} were not compared", "", ()
        case "even":
            said = joined([finding.text for finding in found])
            return f"{a} and {b} are not distinguishable at this n", said + _leanings(found, mirrored), reach
        case "split":
            said = f"for {a}, {joined(for_first)}; for {b}, {joined(for_second)}"
            return f"{a} and {b} each did better on one count{runs}", said, reach
        case "better":
            return f"{a} did better than {b}{runs}", joined(for_first) + _undecided(found), reach
        case _:
            return f"{b} did better than {a}{runs}", joined(for_second) + _undecided(found), reach


def _runs(evidence: Evidence) -> str:
    """A claim about two methods that rests on one training run of either says so."""
    return ", one training run each" if all(evidence.seeds.get(arm) == 1 for arm in POLICIES) else ""


def _leanings(found: list[Finding], mirrored: list[Finding]) -> str:
    """Differences that one measure alone would have shown, but not one of several."""
    first, second = (label(arm) for arm in POLICIES)
    leaning = [f"{finding.by} leans to {first}" for finding in found if finding.leaning > 0]
    leaning += [f"{finding.by} leans to {second}" for finding in mirrored if finding.leaning > 0]
    if not leaning:
        return ""
    return f"; {joined(leaning)}, no more than a hint when {len(found)} measures are looked at"


def _undecided(found: list[Finding]) -> str:
    """The measures that do not tell the two apart, so that a win on one is not read as a win on all."""
    names = [finding.by for finding in found if not finding.sign]
    return f", though {joined(names)} {'do' if len(names) > 1 else 'does'} not tell them apart" if names else ""


def _against(evidence: Evidence, others: tuple[str, ...]) -> str:
    """How both policies stand against `others`, which share the standing."""
    standings = [standing(findings(evidence, arm, others[0])) for arm in POLICIES]
    names = [label(other) for other in others]
    name = " or ".join(names) if standings[0] == "unknown" else joined(names)
    if len(set(standings)) == 1:
        return _BOTH[standings[0]].format(other=name)
    parts = [f"{label(arm)} {_ONE[how].format(other=name)}" for arm, how in zip(POLICIES, standings, strict=True)]
    return " and ".join(parts)


def _gained(evidence: Evidence) -> str:
    against = [{standing(findings(evidence, arm, other)) for arm in POLICIES} for other in ("base", "sft")]
    if against in ([{"better"}, {"better"}], [{"unknown"}, {"unknown"}]):
        text = _against(evidence, ("base", "sft"))
    else:
        text = f"{_against(evidence, ('base',))}, and {_against(evidence, ('sft',))}"
    if numbers := _levels(evidence):
        text += f" ({numbers})"
    return text + _alignment(evidence)


def _levels(evidence: Evidence) -> str:
    """The level of every arm on the first measure there is: adherence, or else the win rate against base."""
    if evidence.adherence:
        measure = evidence.adherence[0]
        levels = [f"{label(arm)} {measure.estimates[arm].share}" for arm in ARMS if arm in measure.estimates]
        return f"{measure.name}: {', '.join(levels)}"
    levels = [f"{label(arm)} {evidence.wins[arm, 'base'].rate.share}" for arm in ARMS if (arm, "base") in evidence.wins]
    return f"win rate against base: {', '.join(levels)}" if levels else ""


def _alignment(evidence: Evidence) -> str:
    suites = [suite for suite in evidence.headlines if suite.kind == "alignment" and suite.compared(POLICIES)]
    if gains := _moves(suites, (1,)):
        return f"; against base, {gains}"
    return f"; no gain is distinguishable on {joined([suite.name for suite in suites])}" if suites else ""


def _moves(suites: list[Measure], signs: tuple[int, ...]) -> str:
    """`DPO gained 12 points on TruthfulQA (+3 to +23) and 5 on …`, arm by arm: every difference against base whose
    interval excludes zero on one of the sides `signs`."""
    parts = []
    for arm in POLICIES:
        said = ""
        for suite in suites:
            difference = suite.differences.get((arm, "base"))
            if difference is None or not difference.sign() or difference.sign() not in signs:
                continue
            verb = f"{label(arm)} {'gained' if difference.sign() > 0 else 'lost'} "
            size = difference.points.lstrip("+" + MINUS)
            amount = size.split(" ")[0] if verb == said else verb + size
            parts.append(f"{amount} on {suite.name} ({difference.points_range})")
            said = verb
    return joined(parts)


def _lost(evidence: Evidence) -> str:
    capability, alignment = (
        [suite for suite in evidence.headlines if suite.kind == kind and suite.compared(POLICIES)]
        for kind in ("capability", "alignment")
    )
    parts = []
    if losses := _moves(alignment, (-1,)):
        parts.append(f"the price in alignment: {losses}")
    if not capability:
        parts.append("what capability was lost was not measured")
    elif losses := _moves(capability, (-1,)):
        parts.append(f"the price in capability: {losses}")
    else:
        names = joined([f"{suite.name} ({suite.items} items)" for suite in capability])
        parts.append(f"no loss of capability is distinguishable on {names}")
    return "; ".join(parts)
