"""The memory plan: sizes worked out by hand, what autograd really keeps, what users are told, and (slow) real peaks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import memory as bench
from rlaif_dagster import memory_plan
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.language.base_model import load
from rlaif_dagster.memory_needs import needs, shape_of
from rlaif_dagster.memory_places import Place, Places
from rlaif_dagster.memory_plan import Setting, Shape
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.project import Project
from rlaif_dagster.spec.recipes import Dpo, Lora, Ppo, Sft

LLAMA = Shape(
    hidden=4096, intermediate=14336, layers=32, heads=32, key_heads=8, head_size=128, vocabulary=128256, tied=False
)
WITHIN = 0.15
ON_A_GPU = Places(Place("cuda"), Place("cuda"))


def test_llama_3_1_8b_has_the_parameters_that_its_card_says() -> None:
    assert LLAMA.parameters == 8_030_261_248
    assert LLAMA.adapter(Lora(r=16)) == 16 * 32 * (2 * 8192 + 2 * 5120 + 3 * 18432) == 41_943_040
    assert memory_plan.weights(LLAMA, Setting(dtype="bfloat16")) == 16_060_522_496
    # 6,979,321,856 weights of linear layers at 4.127 bits, 1,050,939,392 others at 2 bytes
    assert memory_plan.weights(LLAMA, Setting(dtype="bfloat16", four_bit=True)) == pytest.approx(5.70e9, rel=1e-3)


def test_what_a_sequence_keeps_is_the_sum_of_its_parts() -> None:
    shape = Shape(hidden=2, intermediate=3, layers=5, heads=2, key_heads=1, head_size=1, vocabulary=7, tied=True)
    # 4h + 4q + 4i + 7r + heads = 8 + 8 + 12 + 28 + 2 numbers of 4 bytes
    assert memory_plan._kept_a_token(shape, Setting(), Lora(r=4), packed=False, autocast=False) == 58 * 4
    recipe = Sft(batch_size=3, lora=Lora(r=4))
    kept = {p.name: p.bytes for p in memory_plan.sft(shape, Setting(), recipe, prompt=4, answer=6).parts}
    assert kept["kept for the gradient"] == int(1.5 * (30 * 58 * 4 * 5 + 3 * 100 * 5 * 4))
    assert kept["adapter"] == 16 * shape.adapter(Lora(r=4)) == 16 * 4 * 5 * (2 * 4 + 2 * 3 + 3 * 5)
    assert kept["logits"] == int(1.5 * 5 * (3 * 6 * 7 * 4))


def test_the_tiny_models_autograd_keeps_what_the_formula_says(tiny_model_folder: Path, home: Home) -> None:
    from peft import get_peft_model

    from rlaif_dagster.training.adapters import lora_config

    lm, lora = load("tiny", ModelSpec(folder=str(tiny_model_folder)), home), Lora(r=8)
    model = get_peft_model(lm.model, lora_config(lm, lora, task="CAUSAL_LM")).train()
    shape = Shape.of(lm.model.config.to_dict())
    whole = {parameter.data_ptr() for parameter in model.parameters()}
    held: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in whole:
            held[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    ids, mask = torch.randint(5, 400, (4, 60)), torch.ones(4, 60, dtype=torch.long)
    mask[0, -5:] = 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.base_model.model.model(input_ids=ids, attention_mask=mask, use_cache=False)
    said = memory_plan._kept_a_token(shape, Setting(), lora, packed=False, autocast=False) * ids.numel() * shape.layers
    masks = 4 * 60 * 60 * 4 * shape.layers
    assert sum(held.values()) == pytest.approx(said + masks, rel=0.02)


def test_4_bits_and_recomputing_need_less_and_more_answers_need_more() -> None:
    gpu = Setting("cuda", "bfloat16")
    recipe = Dpo(batch_size=8, max_length=1024)
    dpo = memory_plan.dpo(LLAMA, gpu, recipe, prompt=512, answer=512).bytes
    recomputed = recipe.model_copy(update={"gradient_checkpointing": True})
    assert memory_plan.dpo(LLAMA, gpu, recomputed, prompt=512, answer=512).bytes < dpo / 2
    assert memory_plan.dpo(LLAMA, gpu, recipe, prompt=512, answer=256).bytes < dpo
    four = Setting("cuda", "bfloat16", four_bit=True)
    ppo = Ppo(rollout_batch=16, micro_batch=2)
    sizes = [memory_plan.ppo(LLAMA, setting, ppo, prompt=256, answer=64).bytes for setting in (four, gpu)]
    assert 9e9 < sizes[1] - sizes[0] < 16e9


@pytest.mark.parametrize(("model", "room"), [("llama-3.1-8b-instruct", 80e9), ("llama-3.1-8b-instruct-4bit", 24e9)])
def test_the_8b_profile_fits_its_gpu_with_the_recipes_as_they_are(model: str, room: float, home: Home) -> None:
    found = needs(Project(CHECKOUT / "data"), home, model, ["structured", "honesty"], ON_A_GPU)
    assert {"completions", "revisions", "sft_model", "reward_model", "dpo_model", "ppo_model", "ppo_benchmarks"} <= set(
        found
    )
    assert max(need.bytes for need in found.values()) < room


def test_the_shape_in_the_file_is_that_of_the_model(home: Home) -> None:
    spec = Project(CHECKOUT / "data").model("smollm2-135m-instruct")
    assert shape_of(spec, home) == Shape(576, 1536, 30, 9, 3, 64, 49152, True)
    assert shape_of(spec, home).parameters == 134_515_008


def test_a_step_needs_what_each_process_that_shares_its_memory_needs(home: Home) -> None:
    project, model = Project(CHECKOUT / "data"), "smollm2-135m-instruct"

    def planned(training: Place, answering: Place) -> dict[str, memory_plan.Need]:
        return needs(project, home, model, ["structured"], Places(training, answering), 100)

    one = planned(Place("cpu"), Place("cpu"))
    several = planned(Place("cpu", copies=2), Place("cpu", copies=4))
    assert {asset: several[asset].bytes / one[asset].bytes for asset in one} == {
        asset: 2 if asset.endswith("_model") else 4 for asset in one
    }
    assert several["completions"].parts == one["completions"].parts  # those of one process
    mixed, gpu = planned(Place("cpu"), Place("cuda")), planned(Place("cuda"), Place("cuda"))
    assert (mixed["ppo_model"], mixed["ppo_benchmarks"]) == (one["ppo_model"], gpu["ppo_benchmarks"])


def test_an_unknown_shape_plans_nothing(home: Home, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps({"n_embd": 768}))
    assert shape_of(ModelSpec(folder=str(tmp_path)), home) is None


def test_planning_imports_no_heavy_library() -> None:
    code = (
        "import sys; from rlaif_dagster import memory_needs; from rlaif_dagster.home import *; "
        "from rlaif_dagster.memory_places import places; "
        "from rlaif_dagster.spec.project import Project; from pathlib import Path; "
        "project, home = Project(CHECKOUT / 'data'), Home(Path('/nowhere')); "
        "assert memory_needs.needs(project, home, 'smollm2-135m-instruct', ['honesty'], places()); "
        "print({'torch', 'transformers', 'peft', 'bitsandbytes'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return bench.make_models(tmp_path_factory.mktemp("models"))


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("case", bench.CASES, ids=lambda case: "-".join([*case[:2], *map(str, case[2].values())]))
def test_real_peaks_are_within_15_percent(case: tuple[str, str, dict[str, object]], models: dict[str, Path]) -> None:
    """A peak is the largest that can come, and one run may miss it: what looks planned too high is measured again."""
    found = bench.peak(models, *case)
    if found.error > WITHIN:
        found = max(found, bench.peak(models, *case), key=lambda peak: peak.measured)
    assert abs(found.error) <= WITHIN, found
