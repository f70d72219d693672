"""The verdict: one sentence that a reader who was not there can repeat.

Which of DPO and PPO did better, what was gained over base and over SFT, what capability was lost, with numbers. A
difference counts when its 95% interval excludes zero (for a win rate, one half); everything else is said to be not
distinguishable. Nothing is rounded up: arms that failed to beat base are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlaif_dagster.report.arms import ARMS, POLICIES, label
from rlaif_dagster.report.estimate import MINUS, joined
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
    """One measure of one arm against another: 1, -1 or 0, and the numbers in words, from the first arm's side."""

    by: str
    sign: int
    text: str


@dataclass(frozen=True)
class Verdict:
    """The sentence in its three parts."""

    better: str
    gained: str
    lost: str

    @property
    def rest(self) -> str:
        """What follows the first part."""
        return "; ".join((self.gained, self.lost)) + "."

    @property
    def sentence(self) -> str:
        return f"{self.better}; {self.rest}"


def verdict(evidence: Evidence) -> Verdict:
    """The verdict on one grid cell."""
    return Verdict(_better(evidence), _gained(evidence), _lost(evidence))


def findings(evidence: Evidence, arm: str, other: str) -> list[Finding]:
    """What says whether `arm` did better than `other`: the judge's preference and, where there is a format, adherence."""
    found = []
    for measure in evidence.adherence:
        if (difference := measure.differences.get((arm, other))) is None:
            continue
        mine, theirs = measure.estimates[arm], measure.estimates[other]
        text = f"{measure.name} {mine.share} against {theirs.share} ({difference.points}, {difference.points_range})"
        found.append(Finding(measure.name, difference.sign(), text))
    if (wins := evidence.wins.get((arm, other))) is not None:
        text = f"the judge preferred {label(arm)} to {label(other)} on {wins.rate.share} of prompts ({wins.rate.share_range})"
        found.append(Finding("the judge", wins.rate.sign(0.5), text))
    return found


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


def _better(evidence: Evidence) -> str:
    first, second = POLICIES
    a, b = label(first), label(second)
    found = findings(evidence, first, second)
    for_first = [finding.text for finding in found if finding.sign > 0]
    for_second = [finding.text for finding in findings(evidence, second, first) if finding.sign > 0]
    match standing(found):
        case "unknown":
            return f"{a} and {b} were not compared"
        case "even":
            return f"{a} and {b} are not distinguishable: {joined([finding.text for finding in found])}"
        case "split":
            return (
                f"{a} and {b} each did better on one count: for {a}, {joined(for_first)}; for {b}, {joined(for_second)}"
            )
        case "better":
            return f"{a} did better than {b}: {joined(for_first)}{_undecided(found)}"
        case _:
            return f"{b} did better than {a}: {joined(for_second)}{_undecided(found)}"


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
    suites = [suite for suite in evidence.suites if suite.kind == "alignment" and suite.compared(POLICIES)]
    if not suites:
        return ""
    if moved := _moves(suites, (1, -1)):
        return f"; against base, {moved}"
    return f", with no distinguishable change on {joined([suite.name for suite in suites])}"


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
    suites = [suite for suite in evidence.suites if suite.kind == "capability" and suite.compared(POLICIES)]
    if not suites:
        return "what capability was lost was not measured"
    if losses := _moves(suites, (-1,)):
        return f"the price in capability: {losses}"
    names = joined([f"{suite.name} ({suite.items} items)" for suite in suites])
    return f"no loss of capability is distinguishable on {names}"
