"""What the training tests share: fresh tiny models, preference pairs, and short recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

from rlaif_dagster.home import Home
from rlaif_dagster.language.base_model import LanguageModel, load
from rlaif_dagster.spec.model import ModelSpec

FreshModel = Callable[..., LanguageModel]


@pytest.fixture(scope="session")
def fresh_model(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> FreshModel:
    """Makes tiny models of one's own, to be trained; `pad_with_end` gives the padding token that many chat models have."""
    home = Home(tmp_path_factory.mktemp("home"))

    def make(dtype: Literal["float32", "bfloat16"] = "float32", *, pad_with_end: bool = False) -> LanguageModel:
        lm = load("tiny", ModelSpec(folder=str(tiny_model_folder), dtype=dtype), home)
        if pad_with_end:
            lm.tokenizer.pad_token = lm.tokenizer.eos_token
            lm.model.config.pad_token_id = lm.end_id
        return lm

    return make


@pytest.fixture(scope="session")
def pairs() -> pd.DataFrame:
    """Twelve pairs to train on and four held out, of uneven lengths."""
    rows = [
        {
            "prompt": f"Question {number}: name a fruit." + " Please." * (number % 3),
            "chosen": "Answer: an apple" + " and a plum" * (number % 4),
            "rejected": f"I cannot help with that, {number}" + ", sorry" * (number % 5),
            "split": "train" if number < 12 else "held_out",
        }
        for number in range(16)
    ]
    return pd.DataFrame(rows)
