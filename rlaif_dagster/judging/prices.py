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
    """US dollars a token. `dearest` is the most that reading one can cost: writing a provider's prompt cache costs more
    than reading without one."""

    input: float
    output: float
    dearest: float = 0.0

    def of(self, tokens_in: float, tokens_out: float) -> float:
        return tokens_in * self.input + tokens_out * self.output

    def most(self, tokens_in: float, tokens_out: float) -> float:
        """The price of a request that had to write all it read into the provider's cache."""
        return tokens_in * max(self.input, self.dearest) + tokens_out * self.output


def price_of(spec: ApiJudge) -> Price | None:
    """The price of a judge's tokens, or None where neither its file nor the price map knows one. A batch has its own."""
    if spec.usd_per_million_input is not None and spec.usd_per_million_output is not None:
        return Price(spec.usd_per_million_input / 1e6, spec.usd_per_million_output / 1e6)
    entry = entry_of(spec.model)
    if "input_cost_per_token" not in entry or "output_cost_per_token" not in entry:
        return None
    cheap = "_batches" if spec.batch else ""
    read, written = (entry.get(f"{side}_cost_per_token{cheap}") for side in ("input", "output"))
    if read is None or written is None:
        read, written = entry["input_cost_per_token"], entry["output_cost_per_token"]
    return Price(float(read), float(written), float(entry.get(f"cache_creation_input_token_cost{cheap}") or 0.0))


def supports_schema(model: str) -> bool:
    """Whether litellm's map knows that the model can be held to a JSON schema."""
    return bool(entry_of(model).get("supports_response_schema"))


def entry_of(model: str) -> dict[str, Any]:
    """What litellm's map says of a model; nothing where it does not know it."""
    for name in (model, model.partition("/")[2]):
        if name in price_map():
            return price_map()[name]
    return {}


@cache
def price_map() -> dict[str, dict[str, Any]]:
    """litellm's price map by model name."""
    found = importlib.util.find_spec("litellm")
    if found is None or found.origin is None:
        return {}
    content: dict[str, dict[str, Any]] = json.loads((Path(found.origin).parent / PRICE_MAP).read_text(encoding="utf-8"))
    return content
