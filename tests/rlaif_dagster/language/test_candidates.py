"""What the model is asked for completions and revisions, and how its answers become tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.language.candidates import complete, in_context_chat, revise, rewriting_chat
from rlaif_dagster.language.sampling import sample
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.recipes import Generation, Sampling
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, Warehouse
from rlaif_dagster.work import Chunks

PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["p1", "p2", "p3"],
        "split": ["train", "eval", "train"],
        "text": ["Name three fruits.", "Never trained on.", "Why is the sky blue?"],
    }
)
CONSTITUTION = Constitution.model_validate(
    {
        "principles": [{"id": "brief", "text": "Answer briefly."}, {"id": "kind", "text": "Be kind to everybody.\n"}],
        "exemplars": [
            {"prompt": "One?", "response": "Yes."},
            {"prompt": "Two?", "response": "No."},
            {"prompt": "Three?", "response": "Perhaps."},
        ],
    }
)
GENERATION = Generation(
    completions=Sampling(max_new_tokens=6, samples=2, seed=3),
    revisions=Sampling(max_new_tokens=5, samples=2, temperature=0.8),
    exemplars=2,
)
PRINCIPLES = "- Answer briefly.\n- Be kind to everybody."


def test_completions_are_the_models_own_answers(tiny_model: LanguageModel, tmp_path: Path) -> None:
    frame = complete(tiny_model, PROMPTS, GENERATION, None)
    assert frame["prompt_id"].tolist() == ["p1", "p1", "p3", "p3"]  # the training prompts alone
    assert frame["sample"].tolist() == [0, 1, 0, 1]
    plain = [[{"role": "user", "content": PROMPTS["text"][i]}] for i in (0, 2)]
    answers = [answer for inner in sample(tiny_model, plain, GENERATION.completions) for answer in inner]
    assert frame["text"].tolist() == [answer.text.strip() for answer in answers]
    assert frame["logprob"].tolist() == [answer.logprob for answer in answers]
    assert frame["completion_id"].tolist() == [
        content_hash(prompt_id, text) for prompt_id, text in zip(frame["prompt_id"], frame["text"], strict=True)
    ]
    assert set(frame["seed"]) == {3}
    warehouse = Warehouse(tmp_path)
    warehouse.write("completions", frame, Cell(model="tiny"))
    assert warehouse.read("completions", Cell(model="tiny"))["text"].tolist() == frame["text"].tolist()


def test_equal_answers_to_a_prompt_are_kept_once(tiny_model: LanguageModel) -> None:
    greedy = Generation(completions=Sampling(max_new_tokens=4, samples=3, temperature=0))
    frame = complete(tiny_model, PROMPTS, greedy, None)
    assert list(zip(frame["prompt_id"], frame["sample"], strict=True)) == [("p1", 0), ("p3", 0)]


def test_revisions_see_principles_and_exemplars(tiny_model: LanguageModel) -> None:
    chat = in_context_chat(tiny_model, "Four?", CONSTITUTION, 2)
    assert chat == [
        {"role": "system", "content": PRINCIPLES},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Four?"},
    ]
    chats = [in_context_chat(tiny_model, PROMPTS["text"][i], CONSTITUTION, 2) for i in (0, 2)]
    answers = [answer.text.strip() for inner in sample(tiny_model, chats, GENERATION.revisions) for answer in inner]
    frame = revise(tiny_model, PROMPTS, pd.DataFrame(), CONSTITUTION, GENERATION, None)
    assert frame["text"].tolist() == answers
    assert list(frame.columns) == [column.name for column in TABLES["revisions"].columns]


def test_a_models_own_system_message_stays_in_front(tiny_model: LanguageModel) -> None:
    spec = tiny_model.spec.model_copy(update={"system_prompt": "You are tiny."})
    lm = dataclasses.replace(tiny_model, spec=spec)
    assert in_context_chat(lm, "Four?", CONSTITUTION, 0)[0]["content"] == f"You are tiny.\n\n{PRINCIPLES}"
    assert rewriting_chat(lm, "Four?", "4", CONSTITUTION)[0]["content"] == "You are tiny."


@pytest.mark.parametrize("exemplars_in", ["constitution", "recipe"])
def test_without_exemplars_the_model_rewrites_its_first_answer(tiny_model: LanguageModel, exemplars_in: str) -> None:
    constitution, generation = CONSTITUTION, GENERATION
    if exemplars_in == "constitution":
        constitution = CONSTITUTION.model_copy(update={"exemplars": ()})
    else:
        generation = GENERATION.model_copy(update={"exemplars": 0})
    completions = pd.DataFrame(
        {"prompt_id": ["p3", "p1", "p1", "p3"], "sample": [1, 2, 0, 0], "text": ["later", "late", "Plums.", "It is."]}
    )
    chats = [
        [
            {"role": "user", "content": PROMPTS["text"][i]},
            {"role": "assistant", "content": answer},
            {
                "role": "user",
                "content": "Rewrite your answer so that it follows these principles.\n"
                f"{PRINCIPLES}\nGive only the new answer.",
            },
        ]
        for i, answer in ((0, "Plums."), (2, "It is."))
    ]
    answers = [answer.text.strip() for inner in sample(tiny_model, chats, generation.revisions) for answer in inner]
    frame = revise(tiny_model, PROMPTS, completions, constitution, generation, None)
    assert frame["text"].tolist() == answers


def test_finished_chunks_are_found_again(tiny_model: LanguageModel, tmp_path: Path) -> None:
    chunks = Chunks(tmp_path / "work")
    first = revise(tiny_model, PROMPTS, pd.DataFrame(), CONSTITUTION, GENERATION, chunks)
    kept = sorted(chunks.folder.iterdir())
    assert len(kept) == 1
    kept[0].write_text(kept[0].read_text().replace('"finish_reason": "length"', '"finish_reason": "stop"'))
    again = revise(tiny_model, PROMPTS, pd.DataFrame(), CONSTITUTION, GENERATION, chunks)
    assert again["text"].tolist() == first["text"].tolist()
    assert set(again["finish_reason"]) == {"stop"}  # read, not drawn again
