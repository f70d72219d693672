"""Reading a verdict out of what a judge wrote.

Pure and tolerant, in this order: JSON objects (bare, fenced, or cut off after the verdict), `[[A]]`, a labelled line
(`Answer: B`), a bare letter. What is found must be unanimous: a text that says both A and B says nothing. There is no
default. A text without a verdict is a refusal when it declines, and unparseable otherwise.

An answer that is judged cannot speak for the judge. Where a text does not say one thing and quotes an answer word for word,
what it quotes is left out and the rest is read again: a verdict that stands in an answer is not the judge's. A model's
thinking is left out where models put it, at the beginning, so that no quoted `<think>` hides what follows.

Letters name the places in which the judge was shown the answers; `in_terms_of_pair` turns them into the pair's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from rlaif_dagster.judging.verdicts import P_A, Order, Verdict

Said = Literal["A", "B", "tie", "refused", "unparseable"]

PARSING_VERSION = 2  # to be raised with every change of what is read out of an answer: verdicts are read again, unasked
SHORTEST_QUOTE = 12  # characters; a shorter piece of an answer may be anybody's words

_KEYS = ("verdict", "answer", "winner", "preferred", "preference", "choice", "better")
_THINKING = re.compile(r"\A\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_CUT_JSON = re.compile(r'"verdict"\s*:\s*"([^"\n]{1,40})"', re.IGNORECASE)
_BRACKETS = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_LABEL = re.compile(
    r"\b(?:verdict|answer|winner|choice|decision|preference|preferred answer|better answer)\b[\s*_`\"']*"
    r"(?::|=|\bis\b)[\s*_`\"']*(?:answer\s+|response\s+|option\s+)?(A|B|tie)(?=[\s*_`\"']*(?:[.;!)\]}]|,(?!\s*[AB]\b)|$|\b(?:is|because|since)\b))",
    re.MULTILINE | re.IGNORECASE,
)
_BARE = re.compile(
    r"\W*+(?:answer|response|option)?[\W_]*+(A|B|tie)[\W_]*+", re.IGNORECASE
)  # possessive: time linear in the text
_DECLINES = re.compile(
    r"\b(?:can't|cannot|can not|won't|will not|would not|wouldn't|must not|unable to|not able to|not comfortable|refuse to|"
    r"decline to|(?:have|need|must) to (?:decline|refuse)|must (?:decline|refuse)|against my|not appropriate)\b"
    r"|^\W*(?:i(?:'m| am) (?:very |so |really )?sorry|sorry\b)|\bas an ai\b",
    re.IGNORECASE,
)


def parse(text: str, finish: str = "stop", shown: Sequence[str] = ()) -> Said:
    """The verdict in a judge's answer. `finish` is why the provider stopped: an answer that it withheld is a refusal.
    `shown` are the texts that were judged."""
    found = _verdicts(_readable(text))
    if len(set(found)) != 1:
        found = _verdicts(_readable(without_quotes(text, shown))) or found
    return _agreed(found, _readable(text), finish)


def parse_joint(text: str, names: Sequence[str], finish: str = "stop", shown: Sequence[str] = ()) -> dict[str, Said]:
    """The verdict on each principle by its name, in one answer to all; each is read by itself."""
    readable, unquoted = _readable(text), _readable(without_quotes(text, shown))
    out: dict[str, Said] = {}
    for name in names:
        found = _named(readable, name)
        if len(set(found)) != 1:
            found = _named(unquoted, name) or found
        out[name] = _agreed(found, readable, finish)
    return out


def without_quotes(text: str, shown: Sequence[str]) -> str:
    """The text without what it repeats of the answers: whole answers, and their lines of SHORTEST_QUOTE characters or
    more."""
    pieces = {piece.strip() for answer in shown for piece in (answer, *answer.splitlines())}
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= SHORTEST_QUOTE:
            text = text.replace(piece, " ").replace(json.dumps(piece, ensure_ascii=False)[1:-1], " ")
    return text


def in_terms_of_pair(said: Said, order: Order) -> tuple[Verdict, float | None]:
    """(verdict, probability that a is preferred): in order "ba" the answer shown as A is the pair's b."""
    if said == "refused" or said == "unparseable":
        return said, None
    if said == "tie":
        return "tie", P_A["tie"]
    verdict: Verdict = "a" if (said == "A") == (order == "ab") else "b"
    return verdict, P_A[verdict]


def _readable(text: str) -> str:
    return _THINKING.sub(" ", text.replace("\u2019", "'")).strip()


def _agreed(found: Sequence[Said], text: str, finish: str) -> Said:
    """The one verdict that was found; what is not unanimous says nothing, and no verdict may be a refusal."""
    if found:
        return found[0] if len(set(found)) == 1 else "unparseable"
    return "refused" if finish in {"content_filter", "refusal"} or _DECLINES.search(text) else "unparseable"


def _verdicts(text: str) -> list[Said]:
    """Every verdict in the text, of the strictest form that it has."""
    found = list(_from_json(text)) or [_value(match) for match in _CUT_JSON.findall(text)]
    return found or [_value(match) for match in _BRACKETS.findall(text)] or _from_words(text)


def _named(text: str, name: str) -> list[Said]:
    """Every verdict on one principle: the value of its name in any JSON object of the text, cut off or not."""
    pattern = rf'"{re.escape(name)}"\s*:\s*"([^"\n]{{1,40}})"'
    return [_value(match) for match in re.findall(pattern, text, re.IGNORECASE)]


def _from_json(text: str) -> Iterable[Said]:
    """The verdict of every JSON object in the text that has one."""
    decoder, place = json.JSONDecoder(strict=False), text.find("{")
    while place >= 0:
        try:
            content, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):  # no JSON, or more digits or brackets than can be read
            end = place + 1
        else:
            yield from _from_object(content)
        place = text.find("{", end)


def _from_object(content: dict[str, Any]) -> list[Said]:
    fields = {key.strip().lower(): value for key, value in content.items()}
    return [_value(fields[key]) for key in _KEYS if key in fields][:1]


def _from_words(text: str) -> list[Said]:
    # a lower-case "a" after a label is more often the article than the answer, unless nothing follows it
    labelled = [
        m[1] for m in _LABEL.finditer(text) if m[1] != "a" or not text[m.end() :].lstrip(" *_`\"'").startswith("is")
    ]
    if labelled:
        return [_value(letter) for letter in labelled]
    bare = _BARE.fullmatch(text)
    return [_value(bare[1])] if bare else []


def _value(value: object) -> Said:
    """What the value of a verdict field means."""
    while isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not isinstance(value, str):
        return "unparseable"
    word = re.sub(r"^(?:answer|response|option)[\s_]*", "", value.strip().strip(".[]\"'*").lower())
    if word in {"a", "b"}:
        return "A" if word == "a" else "B"
    if word in {"tie", "c", "equal", "draw", "both", "neither", "same"}:
        return "tie"
    return "refused" if re.match(r"refus|declin", word) else "unparseable"
