"""From preferences to the pairs that train."""

from __future__ import annotations

import duckdb
import pandas as pd

from rlaif_dagster.judging.aggregate import preferences
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.recipes import PairBuilding

COLUMNS = [
    "pair_id", "prompt_id", "prompt", "chosen", "rejected", "chosen_id", "rejected_id", "p_chosen", "margin",
    "order_consistent", "split",
]  # fmt: skip

# A tie is a preference within the margin. `a` is chosen in a kept tie: ids are hashes, so that says nothing of the answers.
# best_worst: by the mean probability of winning over all of an answer's pairs, the pair of the best and the worst; where
# that pair has no preference (or none that the order leaves alone, if that is required), the next one.
# The split hashes the prompt: a prompt that is added moves no other, and all pairs of a prompt stay on one side.
_SQL = """
WITH judged AS (
    SELECT * FROM preferences WHERE p_a IS NOT NULL
),
wins AS (
    SELECT answer_id, avg(p) AS rate
    FROM (SELECT a_id AS answer_id, p_a AS p FROM judged UNION ALL SELECT b_id, 1 - p_a FROM judged)
    GROUP BY answer_id
),
ranked AS (
    SELECT judged.*, row_number() OVER (
        PARTITION BY prompt_id ORDER BY abs(first.rate - second.rate) DESC, pair_id
    ) AS place
    FROM judged
    JOIN wins AS first ON first.answer_id = a_id
    JOIN wins AS second ON second.answer_id = b_id
    WHERE NOT $require_order_consistent OR coalesce(order_consistent, true)
),
wanted AS (
    SELECT *, abs(2 * p_a - 1) < $min_margin OR p_a = 0.5 AS tie
    FROM ranked
    WHERE $every_pair OR place = 1
),
oriented AS (
    SELECT *, tie OR p_a > 0.5 AS a_wins
    FROM wanted
    WHERE NOT tie OR $keep_ties
)
SELECT
    pair_id,
    prompt_id,
    prompts.text AS prompt,
    chosen.text AS chosen,
    rejected.text AS rejected,
    chosen.completion_id AS chosen_id,
    rejected.completion_id AS rejected_id,
    CASE WHEN tie THEN 0.5 WHEN a_wins THEN p_a ELSE 1 - p_a END AS p_chosen,
    2 * p_chosen - 1 AS margin,
    order_consistent,
    CASE
        WHEN md5_number_lower(prompt_id) / 18446744073709551616.0 < $held_out_share THEN 'held_out' ELSE 'train'
    END AS split
FROM oriented
JOIN prompts USING (prompt_id)
JOIN answers AS chosen ON chosen.completion_id = CASE WHEN a_wins THEN a_id ELSE b_id END
JOIN answers AS rejected ON rejected.completion_id = CASE WHEN a_wins THEN b_id ELSE a_id END
ORDER BY prompt_id, pair_id
"""


def build_pairs(
    judgments: pd.DataFrame,
    candidates: pd.DataFrame,
    prompts: pd.DataFrame,
    constitution: Constitution,
    recipe: PairBuilding,
) -> pd.DataFrame:
    """The table preference_pairs, without its keys, in the order of prompt and pair.

    `judgments` as the judge gave them, `candidates` with completion_id and text, `prompts` with prompt_id and text. Pairs
    whose verdicts all failed are left out.
    """
    with duckdb.connect() as connection:
        known = preferences(judgments, constitution)
        connection.register("preferences", known.astype({"order_consistent": "boolean"}))
        connection.register("answers", candidates[["completion_id", "text"]].drop_duplicates("completion_id"))
        connection.register("prompts", prompts[["prompt_id", "text"]])
        frame = connection.execute(
            _SQL,
            {
                "min_margin": recipe.min_margin,
                "every_pair": recipe.pairs_per_prompt == "all",
                "require_order_consistent": recipe.require_order_consistent,
                "keep_ties": recipe.ties == "keep",
                "held_out_share": recipe.held_out_share,
            },
        ).df()
    return frame[COLUMNS].astype({"order_consistent": "object"})
