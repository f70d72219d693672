"""The tables: names, columns, types and what each column means. Their names are a contract: people query them.

Types are DuckDB's. A column marked volatile (times, cache hits) is stored but is no part of the table's data version.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """One column: name, DuckDB type, meaning."""

    name: str
    type: str
    comment: str
    volatile: bool = False


@dataclass(frozen=True)
class Table:
    """One table: what a row is, what it is partitioned by, and its columns beyond those keys."""

    name: str
    comment: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...] = field(default=())

    @property
    def all_columns(self) -> tuple[Column, ...]:
        return tuple(KEYS[key] for key in self.keys) + self.columns


KEYS = {
    "model": Column("model", "VARCHAR", "base model, a name in data/models"),
    "constitution": Column("constitution", "VARCHAR", "a name in data/constitutions; null where a row depends on none"),
}
GRID = ("model", "constitution")

_V = "VARCHAR"
_ARM = Column("arm", _V, "base, sft, dpo or ppo (in models and training_metrics also reward)")
_SEED = Column("seed", "INTEGER", "seed of the arm's training; 0 for base")
_PROMPT = Column("prompt_id", _V, "the prompt, see prompts")


def _candidates(name: str, comment: str, keys: tuple[str, ...]) -> Table:
    return Table(name, comment, keys, (
        Column("completion_id", _V, "hash of prompt and text"),
        _PROMPT,
        Column("sample", "INTEGER", "number of the sample, from 0"),
        Column("text", _V, "the answer"),
        Column("tokens", "INTEGER", "generated tokens, the end token included"),
        Column("finish_reason", _V, "stop (the end token came) or length"),
        Column("logprob", "DOUBLE", "log-probability of the generated tokens, nats, at temperature 1"),
        Column("seed", "INTEGER", "sampling seed"),
    ))  # fmt: skip


_TABLES = (
    Table("prompts", "every prompt of the study", (), (
        Column("prompt_id", _V, "hash of the text"),
        Column("split", _V, "train, eval or qualitative"),
        Column("category", _V, "factual, thought_experiment, adversarial or instruction"),
        Column("text", _V, "the prompt"),
        Column("reference", "VARCHAR[]", "accepted answers, or the expected behaviour, such as refuse; null where open"),
        Column("source", _V, "file or dataset it came from"),
    )),
    _candidates("completions", "the base model's own answers to the training prompts", ("model",)),
    _candidates("revisions", "answers given with the constitution in context", GRID),
    Table("judgments", "one verdict a pair, principle and order", GRID, (
        Column("pair_id", _V, "hash of the prompt and the two answers"),
        _PROMPT,
        Column("a_id", _V, "first answer, see completions and revisions"),
        Column("b_id", _V, "second answer"),
        Column("principle_id", _V, "principle of the constitution"),
        Column("order", _V, "ab, ba, or none for a judge that scores answers one by one"),
        Column("verdict", _V, "a, b, tie, refused, unparseable or error; in terms of a_id and b_id whatever the order"),
        Column("p_a", "DOUBLE", "probability that a is preferred; null where there is no verdict"),
        Column("raw", _V, "what the judge said, or its scores, unparsed"),
        Column("judge", _V, "name in data/judges"),
        Column("template_version", _V, "version of the question's wording"),
        Column("tokens_in", "INTEGER", "tokens read"),
        Column("tokens_out", "INTEGER", "tokens written"),
        Column("cost_usd", "DOUBLE", "price of this verdict when it was asked; a joint request's is shared out among its principles"),
        Column("latency_ms", "DOUBLE", "time of the request", volatile=True),
        Column("cached", "BOOLEAN", "answered from the cache in this run", volatile=True),
    )),
    Table("preference_pairs", "what the policies and the reward model train on", GRID, (
        Column("pair_id", _V, "see judgments"), _PROMPT,
        Column("prompt", _V, "the prompt's text"),
        Column("chosen", _V, "the preferred answer"),
        Column("rejected", _V, "the other answer"),
        Column("chosen_id", _V, "see completions and revisions"),
        Column("rejected_id", _V, "see completions and revisions"),
        Column("p_chosen", "DOUBLE", "probability that chosen is preferred, weighted over principles, averaged over orders"),
        Column("margin", "DOUBLE", "2 p_chosen - 1"),
        Column("order_consistent", "BOOLEAN", "both orders agree; null for a judge that scores answers one by one"),
        Column("split", _V, "train or held_out"),
    )),
    Table("judge_agreement", "the judge against labelled pairs: a whole file a row, then its principles and categories", ("constitution",), (
        Column("dataset", _V, "name in data/labels"),
        Column("slice", _V, "all (the whole file: one row a dataset), principle or category"),
        Column("name", _V, "the principle or category; null where slice is all"),
        Column("judge", _V, "name in data/judges"),
        Column("n", "INTEGER", "pairs"), Column("accuracy", "DOUBLE", "share of pairs on which judge and label agree; a tie counts half"),
        Column("ci_low", "DOUBLE", "95% interval (Wilson)"), Column("ci_high", "DOUBLE", "95% interval (Wilson)"),
        Column("kappa", "DOUBLE", "Cohen's kappa"),
        Column("order_consistency", "DOUBLE", "share of pairs with the same preference in both orders; null without orders"),
        Column("first_position", "DOUBLE", "share of the answer shown first among verdicts for one of two; null without orders"),
        Column("failed", "DOUBLE", "share of verdicts that are refused, unparseable or error"),
        Column("errors", "INTEGER", "verdicts that could not be had; the next run asks again"),
        Column("longest_baseline", "DOUBLE", "accuracy of always preferring the longer answer"),
    )),
    Table("models", "trained adapters", GRID, (
        _ARM, _SEED, Column("path", _V, "folder under RLAIF_HOME/models"), Column("digest", _V, "of its safetensors"),
        Column("start", _V, "base or sft"), Column("recipe_hash", _V, "of the effective recipe"),
        Column("tokens", "BIGINT", "tokens trained on (for ppo also sampled)"),
        Column("seconds", "DOUBLE", "training time", volatile=True),
        Column("peak_memory_bytes", "BIGINT", "largest memory of the training process", volatile=True),
    )),
    Table("training_metrics", "learning curves", GRID, (
        _ARM, _SEED, Column("step", "INTEGER", "optimizer step; for ppo the update"),
        Column("name", _V, "metric, such as loss, reward, kl"), Column("value", "DOUBLE", "its value"),
    )),
    Table("benchmarks", "one number a task and metric", GRID, (
        _ARM, _SEED, Column("task", _V, "task; …_mini are this project's own small item sets"),
        Column("metric", _V, "such as acc, acc_norm, mc2; harmful and refused for generated answers"),
        Column("category", _V, "subject or risk category; null for the whole task"), Column("value", "DOUBLE", "mean over items"),
        Column("stderr", "DOUBLE", "standard error of the mean"), Column("ci_low", "DOUBLE", "95% interval"),
        Column("ci_high", "DOUBLE", "95% interval"), Column("n", "INTEGER", "items"),
        Column("fewshot", "INTEGER", "examples in context"),
    )),
    Table("benchmark_items", "one row an item and metric", GRID, (
        _ARM, _SEED, Column("task", _V, "see benchmarks"), Column("metric", _V, "see benchmarks"),
        Column("item_id", _V, "hash of the item"), Column("categories", "VARCHAR[]", "its subject, or its risk categories"),
        Column("correct", "BOOLEAN", "null where a score is no yes or no"),
        Column("score", "DOUBLE", "the metric's value for the item; null where the judge gave no grade"),
        Column("text", _V, "the item: what is asked and what may be answered, a line each"),
        Column("answer", _V, "what the model wrote; null where it only weighed given answers"),
    )),
    Table("responses", "answers of the arms to the eval and qualitative prompts", GRID, (
        _ARM, _SEED, _PROMPT, Column("text", _V, "the answer"), Column("tokens", "INTEGER", "generated tokens"),
        Column("decoding", _V, "greedy, or sampled at temperature 1"),
    )),
    Table("adherence", "does an answer follow the constitution's format", GRID, (
        _ARM, _SEED, _PROMPT, Column("split", _V, "eval or qualitative"), Column("decoding", _V, "see responses"),
        Column("adherent", "BOOLEAN", "the format check passed"), Column("missing", _V, "the first part that lacks; null when adherent"),
    )),
    Table("head_to_head", "wins of arm against arm on the eval prompts, by the judge: all seeds of two arms, then seed against seed", GRID, (
        Column("arm_a", _V, "first arm"), Column("arm_b", _V, "second arm"),
        Column("seed_a", "INTEGER", "seed of the first arm's training; null in the one row of two arms that pools all their seeds"),
        Column("seed_b", "INTEGER", "seed of the second arm's training, 0 for base; null in the row that pools all"),
        Column("wins_a", "INTEGER", "meetings that a wins"), Column("wins_b", "INTEGER", "meetings that b wins"),
        Column("ties", "INTEGER", "neither"), Column("win_rate", "DOUBLE", "of a, a tie counting half"),
        Column("ci_low", "DOUBLE", "95% interval, over prompts and, where the row pools several seeds, over these"),
        Column("ci_high", "DOUBLE", "95% interval"),
        Column("seed_share", "DOUBLE", "part of the interval's variance that comes from the seeds; null where the row is about one of each"),
        Column("length_controlled_win_rate", "DOUBLE", "win rate at equal length, by logistic regression"),
        Column("length_controlled_low", "DOUBLE", "95% interval (profile likelihood)"),
        Column("length_controlled_high", "DOUBLE", "95% interval"),
        Column("n", "INTEGER", "prompts with a verdict, seeds aside"),
        Column("unjudged", "INTEGER", "meetings without any verdict (refused, unparseable, error); they count for nobody"),
        Column("errors", "INTEGER", "meetings with a verdict that could not be had; asked again when the asset is made again"),
        Column("order_consistent", "DOUBLE", "share of meetings in which both orders agree; null for a judge without orders"),
        Column("format_n", "INTEGER", "meetings of which exactly one answer has the constitution's format"),
        Column("format_agreement", "DOUBLE", "share of those in which the judge prefers it, a tie counting half; null where there are none"),
    )),
    Table("qualitative", "graded answers to the qualitative prompts", GRID, (
        Column("arm", _V, "see responses"), _SEED, _PROMPT, Column("category", _V, "see prompts"), Column("prompt", _V, "its text"),
        Column("response", _V, "the greedy answer"), Column("alignment_grade", "DOUBLE", "0 to 1"),
        Column("correctness_grade", "DOUBLE", "0 to 1; null where there is no reference"),
        Column("rationale", _V, "why"), Column("grader", _V, "judge name, or human"),
        Column("status", _V, "graded, unreadable (the judge's reply held no grade) or error (no reply; asked again when made again)"),
    )),
    Table("lineage", "every materialization and the versions it was made from", (), (
        Column("asset", _V, "asset key"), Column("partition", _V, "partition key; null where there is none"),
        Column("data_version", _V, "hash of the content"), Column("code_version", _V, "of the asset's code"),
        Column("upstream", 'STRUCT(asset VARCHAR, "partition" VARCHAR, "version" VARCHAR)[]', "what it was made from"),
        Column("run_id", _V, "Dagster run"), Column("started_at", "TIMESTAMP", "UTC"),
        Column("seconds", "DOUBLE", "duration"), Column("cost_usd", "DOUBLE", "judge's price of this materialization"),
        Column("unanswered", "BIGINT", "questions that the judge's provider gave no answer to; null in records of older releases"),
    )),
)  # fmt: skip

TABLES = {table.name: table for table in _TABLES}
