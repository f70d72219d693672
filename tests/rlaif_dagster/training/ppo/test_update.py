"""The gradient of a minibatch: equal to a plain implementation's, whatever the micro-batch; and the steps around it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlaif_dagster.spec.recipes import Lora, Ppo
from rlaif_dagster.training.ppo.backbone import Backbone
from rlaif_dagster.training.ppo.rollout import roll_out
from rlaif_dagster.training.ppo.separate import SeparateModels
from rlaif_dagster.training.ppo.update import (
    Experience,
    NotFiniteError,
    accumulate_gradient,
    make_optimizer,
    minibatches,
    set_learning_rates,
    update_policy,
)
from tests.rlaif_dagster.training.conftest import FreshModel
from tests.rlaif_dagster.training.ppo.conftest import TEXTS, Recipe, randomize


@pytest.fixture
def backbone(fresh_model: FreshModel) -> Backbone:
    lm = fresh_model()
    lm.model.generation_config.eos_token_id = list(range(7, 500, 10))
    backbone = Backbone(lm, Lora(r=4, alpha=8), seed=0)
    randomize(backbone.trunk, 1, ["lora_A.policy", "lora_B.policy"])
    torch.manual_seed(0)
    torch.nn.init.normal_(backbone.value_head.weight, std=0.1)
    return backbone


@pytest.fixture
def experience(backbone: Backbone) -> Experience:
    """Eight answers with random advantages, drawn by a policy that has moved a little since."""
    torch.manual_seed(1)
    ids = [backbone.lm.prompt_ids(backbone.lm.chat(text)) for text in TEXTS[:8]]
    draws = torch.rand(8, 6, dtype=torch.float64)
    rollout = roll_out(backbone, TEXTS[:8], ids, max_new_tokens=6, temperature=0.9, draws=draws)
    shape = rollout.mask.shape
    rollout = replace(rollout, logprobs=rollout.logprobs + 0.3 * torch.randn(shape))
    return Experience(rollout, torch.randn(shape), torch.randn(shape), torch.randn(shape))


def gradients(backbone: Backbone, experience: Experience, rows: list[int], recipe: Ppo) -> dict[str, torch.Tensor]:
    parameters = backbone.policy_parameters() | {f"value.{k}": p for k, p in backbone.value_head.named_parameters()}
    for parameter in parameters.values():
        parameter.grad = None
    accumulate_gradient(backbone, experience, rows, recipe)
    return {name: parameter.grad.clone() for name, parameter in parameters.items() if parameter.grad is not None}


def test_gradient_does_not_depend_on_the_micro_batch(
    backbone: Backbone, experience: Experience, recipe: Recipe
) -> None:
    rows = [6, 1, 3, 0, 5, 7]
    whole = gradients(backbone, experience, rows, recipe(temperature=0.9, micro_batch=6))
    assert len(whole) == 2 * 7 * 2 + 2
    for size in (1, 4):
        parts = gradients(backbone, experience, rows, recipe(temperature=0.9, micro_batch=size))
        for name, gradient in whole.items():
            torch.testing.assert_close(parts[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", [Backbone, SeparateModels])
def test_recomputing_activations_changes_memory_alone(
    fresh_model: FreshModel, experience: Experience, recipe: Recipe, kind: type[Backbone]
) -> None:
    """To the bit, with a value function of its own as well; and the layers are as they were afterwards."""
    models = kind(fresh_model(), Lora(r=4, alpha=8), seed=0, own_value=True)
    torch.nn.init.normal_(models.value_head.weight, std=0.1)
    training = [module.training for module in models.trunk.modules()]
    kept = {False: 0, True: 0}

    def run(wanted: bool) -> dict[str, torch.Tensor]:
        def count(tensor: torch.Tensor) -> torch.Tensor:
            kept[wanted] += tensor.numel()
            return tensor

        for parameter in models.value_parameters().values():
            parameter.grad = None
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            found = gradients(models, experience, [6, 1, 3, 0], recipe(micro_batch=2, gradient_checkpointing=wanted))
        return found | {f"own.{k}": p.grad.clone() for k, p in models.value_parameters().items() if p.grad is not None}

    plain, recomputed = run(False), run(True)
    assert kept[True] < 0.2 * kept[False]
    assert len(plain) > len(models.policy_parameters()) + 2
    assert plain.keys() == recomputed.keys()
    assert all(torch.equal(recomputed[name], gradient) for name, gradient in plain.items())
    assert [module.training for module in models.trunk.modules()] == training


def test_gradient_equals_a_plain_implementation(backbone: Backbone, experience: Experience, recipe: Recipe) -> None:
    """The whole loss spelled out: one plain pass an answer, whole logits, means over all tokens."""
    made = recipe(temperature=0.9, micro_batch=4, value_coefficient=0.3, entropy_coefficient=0.2)
    rows = [0, 2, 4, 6, 7]
    found = gradients(backbone, experience, rows, made)

    backbone.lm.model.set_attn_implementation("sdpa")
    policy, value, entropy, tokens = [], [], [], 0
    for row in rows:
        prompt, answer = experience.rollout.prompt_ids[row], experience.rollout.answer_ids[row]
        output = backbone.lm.model(input_ids=torch.tensor([prompt + answer]), output_hidden_states=True)
        steps = slice(len(prompt) - 1, len(prompt) + len(answer) - 1)
        distribution = (output.logits[0, steps] / 0.9).log_softmax(-1)
        entropy.append(-(distribution.exp() * distribution).sum(-1))
        n = len(answer)
        ratio = (distribution[torch.arange(n), torch.tensor(answer)] - experience.rollout.logprobs[row, :n]).exp()
        advantage, old, target = (x[row, :n] for x in (experience.advantages, experience.values, experience.returns))
        policy.append(-torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage))
        now = backbone.value_head(output.hidden_states[-1][0, steps])[:, 0]
        near = torch.maximum(torch.minimum(now, old + 0.2), old - 0.2)
        value.append(0.5 * torch.maximum((now - target) ** 2, (near - target) ** 2))
        tokens += n
    loss = (torch.cat(policy).sum() + 0.3 * torch.cat(value).sum() - 0.2 * torch.cat(entropy).sum()) / tokens
    for parameter in [*backbone.policy_parameters().values(), *backbone.value_head.parameters()]:
        parameter.grad = None
    loss.backward()
    for name, parameter in backbone.policy_parameters().items():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-3)
    assert backbone.value_head.weight.grad is not None
    torch.testing.assert_close(found["value.weight"], backbone.value_head.weight.grad, atol=1e-6, rtol=1e-3)


def test_what_is_reported_is_a_mean_over_tokens(backbone: Backbone, experience: Experience, recipe: Recipe) -> None:
    sums = accumulate_gradient(backbone, experience, range(8), recipe(temperature=0.9))
    assert sums["tokens"] == int(experience.rollout.mask.sum())
    learnt = update_policy(
        backbone,
        make_optimizer(backbone, recipe()),
        experience,
        recipe(minibatches=1, epochs=1, temperature=0.9),
        seed=0,
        update=0,
    )
    for name, value in learnt.items():
        if name not in ("gradient_norm", "steps"):
            assert value == pytest.approx(sums[name] / sums["tokens"], rel=1e-4)


def test_nothing_is_clipped_before_the_first_step(backbone: Backbone, recipe: Recipe) -> None:
    ids = [backbone.lm.prompt_ids(backbone.lm.chat(text)) for text in TEXTS[:8]]
    rollout = roll_out(
        backbone, TEXTS[:8], ids, max_new_tokens=6, temperature=1.0, draws=torch.rand(8, 6, dtype=torch.float64)
    )
    zeros = torch.zeros(rollout.mask.shape)
    sums = accumulate_gradient(backbone, Experience(rollout, zeros, zeros, zeros), range(8), recipe())
    assert sums["clip_fraction"] == 0
    assert abs(sums["kl"]) < 1e-6


def test_a_step_moves_towards_what_was_better_than_expected(
    backbone: Backbone, experience: Experience, recipe: Recipe
) -> None:
    ids = [backbone.lm.prompt_ids(backbone.lm.chat(text)) for text in TEXTS[:8]]
    draws = torch.rand(8, 6, dtype=torch.float64)
    rollout = roll_out(backbone, TEXTS[:8], ids, max_new_tokens=6, temperature=1.0, draws=draws)
    zeros = torch.zeros(rollout.mask.shape)
    good = torch.zeros(8, dtype=torch.bool)
    good[::2] = True
    advantages = torch.where(good[:, None], 1.0, -1.0).expand_as(zeros)
    made = recipe(minibatches=1, epochs=3, learning_rate=1e-3)
    optimizer = make_optimizer(backbone, made)
    update_policy(backbone, optimizer, Experience(rollout, zeros, advantages, zeros), made, seed=0, update=0)
    from rlaif_dagster.training.ppo.rollout import score_tokens

    after, _ = score_tokens(backbone, rollout, temperature=1.0, micro_batch=8)
    gained = (after - rollout.logprobs).sum(1)
    assert gained[good].mean() > 0 > gained[~good].mean()


def test_a_number_that_is_not_finite_stops_before_the_weights(
    backbone: Backbone, experience: Experience, recipe: Recipe
) -> None:
    before = backbone.policy_state()
    optimizer = make_optimizer(backbone, recipe())
    broken = replace(experience, returns=torch.full_like(experience.returns, float("nan")))
    with pytest.raises(NotFiniteError, match="loss nan"):
        update_policy(backbone, optimizer, broken, recipe(), seed=0, update=0)
    after = backbone.policy_state()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_update_ends_where_the_policy_has_moved_too_far(
    backbone: Backbone, experience: Experience, recipe: Recipe
) -> None:
    def steps(limit: float | None) -> float:
        made = recipe(temperature=0.9, epochs=3, max_update_kl=limit)
        return update_policy(backbone, make_optimizer(backbone, made), experience, made, seed=0, update=0)["steps"]

    assert steps(1e-6) == 0  # it is further away than that before the first step
    assert steps(None) == 6


def test_minibatches_cover_the_rollout_once_an_epoch(recipe: Recipe) -> None:
    made = recipe(minibatches=4)
    first, again, other = (list(minibatches(made, 0, update, epoch)) for update, epoch in ((3, 0), (3, 0), (3, 1)))
    assert sorted(row for rows in first for row in rows) == list(range(8))
    assert [len(rows) for rows in first] == [2] * 4
    assert first == again != other


def test_learning_rates_by_hand(backbone: Backbone, recipe: Recipe) -> None:
    def rates(made: Ppo) -> list[float]:
        optimizer = make_optimizer(backbone, made)
        found = []
        for update in range(made.updates):
            set_learning_rates(optimizer, made, update)
            found.append(optimizer.param_groups[0]["lr"])
            assert optimizer.param_groups[1]["lr"] == pytest.approx(found[-1] * 10)
        return found

    fields = {"updates": 5, "warmup_updates": 1, "learning_rate": 1.0, "value_learning_rate": 10.0}
    assert rates(recipe(**fields, lr_scheduler="linear")) == pytest.approx([0.5, 1.0, 0.75, 0.5, 0.25])
    assert rates(recipe(**fields, lr_scheduler="constant")) == pytest.approx([0.5, 1, 1, 1, 1])
    assert rates(recipe(**{**fields, "warmup_updates": 0}, lr_scheduler="linear")) == pytest.approx(
        [1.0, 0.8, 0.6, 0.4, 0.2]
    )
    assert make_optimizer(backbone, recipe()).defaults["eps"] == 1e-5
