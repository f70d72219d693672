"""The measurable effect: does an answer have the constitution's format, checked by a program and by nobody's taste."""

from __future__ import annotations

import pandas as pd

from rlaif_dagster.spec.constitution import Constitution

COLUMNS = ["arm", "seed", "prompt_id", "split", "decoding", "adherent", "missing"]


def adherence(responses: pd.DataFrame, prompts: pd.DataFrame, constitution: Constitution) -> pd.DataFrame:
    """The table `adherence`: one row a response, with the first part of the format that it lacks (null when it
    adheres).

    Empty when the constitution has no format. Raises KeyError for a response to a prompt that is not in `prompts`.
    """
    if constitution.format is None:
        return pd.DataFrame(columns=COLUMNS)
    splits = dict(zip(prompts["prompt_id"], prompts["split"], strict=True))
    missing = [constitution.format.missing(text) for text in responses["text"]]
    return pd.DataFrame(
        {
            "arm": list(responses["arm"]),
            "seed": list(responses["seed"]),
            "prompt_id": list(responses["prompt_id"]),
            "split": [splits[prompt_id] for prompt_id in responses["prompt_id"]],
            "decoding": list(responses["decoding"]),
            "adherent": [part is None for part in missing],
            "missing": pd.Series(missing, dtype=object),
        },
        columns=COLUMNS,
    )
