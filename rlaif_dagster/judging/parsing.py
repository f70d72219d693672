"""Reading a verdict out of what a judge wrote.

Pure and tolerant, in this order: JSON objects (bare, fenced, or cut off after the verdict), `[[A]]`, a labelled line
(`Answer: B`), a bare letter. What is found must be unanimous: a text that says both A and B says nothing. There is no
default. A text without a verdict is a refusal when it declines, and unparseable otherwise.

Letters name the places in which the judge was shown the answers; `in_terms_of_pair` turns them into the pair's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Literal

from rlaif_dagster.judging.verdicts import P_A, Order, Verdict

Said = Literal["A", "B", "tie", "refused", "unparseable"]

_KEYS = ("verdict", "answer", "winner", "preferred", "preference", "choice", "better")
_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_CUT_JSON = re.compile(r'"verdict"\s*:\s*"([^"\n]{1,40})"', re.IGNORECASE)
_BRACKETS = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_LABEL = re.compile(
    r"\b(?:verdict|answer|winner|choice|decision|preference|preferred answer|better answer)\b[\s*_`\"']*"
    r"(?::|=|\bis\b)[\s*_`\"']*(?:answer\s+|response\s+|option\s+)?(A|B|tie)(?=[\s*_`\"']*(?:[.;!)\]}]|,(?!\s*[AB]\b)|$|\b(?:is|because|since)\b))",
    re.MULTILINE | re.IGNORECASE,
)
_BARE = re.compile(r"\W*(?:answer|response|option)?[\W_]*(A|B|tie)[\W_]*", re.IGNORECASE)
_DECLINES = re.compile(
    r"\b(?:can't|cannot|can not|won't|will not|would not|wouldn't|must not|unable to|not able to|not comfortable|refuse to|"
    r"decline to|(?:have|need|must) to (?:decline|refuse)|must (?:decline|refuse)|against my|not appropriate)\b"
    r"|^\W*(?:i(?:'m| am) (?:very |so |really )?sorry|sorry\b)|\bas an ai\b",
    re.IGNORECASE,
)


def parse(text: str, finish: str = "stop") -> Said:
    """The verdict in a judge's answer. `finish` is why the provider stopped: an answer that it withheld is a refusal."""
    text = _THINKING.sub(" ", text.replace("\u2019", "'")).strip()
    found = list(_from_json(text)) or [_value(match) for match in _CUT_JSON.findall(text)]
    if not found:
        found = [_value(match) for match in _BRACKETS.findall(text)] or _from_words(text)
    if found:
        return found[0] if len(set(found)) == 1 else "unparseable"
    return "refused" if finish in {"content_filter", "refusal"} or _DECLINES.search(text) else "unparseable"


def in_terms_of_pair(said: Said, order: Order) -> tuple[Verdict, float | None]:
    """(verdict, probability that a is preferred): in order "ba" the answer shown as A is the pair's b."""
    if said == "refused" or said == "unparseable":
        return said, None
    if said == "tie":
        return "tie", P_A["tie"]
    verdict: Verdict = "a" if (said == "A") == (order == "ab") else "b"
    return verdict, P_A[verdict]


def _from_json(text: str) -> Iterable[Said]:
    """The verdict of every JSON object in the text that has one."""
    decoder, place = json.JSONDecoder(strict=False), text.find("{")
    while place >= 0:
        try:
            content, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError:
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
    word = re.sub(r"^(?:answer|response|option)[\s_]*", "", str(value).strip().strip(".[]\"'*").lower())
    if word in {"a", "b"}:
        return "A" if word == "a" else "B"
    if word in {"tie", "c", "equal", "draw", "both", "neither", "same"}:
        return "tie"
    return "refused" if re.match(r"refus|declin", word) else "unparseable"
