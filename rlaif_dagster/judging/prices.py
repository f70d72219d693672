"""What a token costs: the judge file's own prices, else litellm's price map, read without importing litellm.

The map is a file inside litellm's package; importing litellm itself takes seconds and `rlaif plan` must not. Prices are those
of the installed release: deterministic, and never fetched.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rlaif_dagster.spec.judge import ApiJudge

PRICE_MAP = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True)
class Price:
    """US dollars a token."""

    input: float
    output: float

    def of(self, tokens_in: float, tokens_out: float) -> float:
        return tokens_in * self.input + tokens_out * self.output


def price_of(spec: ApiJudge) -> Price | None:
    """The price of a judge's tokens, or None where neither its file nor the price map knows one."""
    if spec.usd_per_million_input is not None and spec.usd_per_million_output is not None:
        return Price(spec.usd_per_million_input / 1e6, spec.usd_per_million_output / 1e6)
    for name in (spec.model, spec.model.partition("/")[2]):
        entry = price_map().get(name, {})
        if "input_cost_per_token" in entry and "output_cost_per_token" in entry:
            return Price(float(entry["input_cost_per_token"]), float(entry["output_cost_per_token"]))
    return None


@cache
def price_map() -> dict[str, dict[str, Any]]:
    """litellm's price map by model name."""
    found = importlib.util.find_spec("litellm")
    if found is None or found.origin is None:
        return {}
    content: dict[str, dict[str, Any]] = json.loads((Path(found.origin).parent / PRICE_MAP).read_text(encoding="utf-8"))
    return content
