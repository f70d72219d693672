"""PPO from prompts and a reward to a published adapter (arXiv 1707.06347, with the details of 2403.17031).

One update: the policy answers a batch of prompts; reward model or judge score the answers and the reference says how likely it
would have given them; scores and KL become rewards a token, rewards and values become advantages; several epochs of minibatch
ascent follow. All models are one frozen backbone (backbone.py), or, where the recipe says so, whole models (separate.py).
The published policy is the one that did best on held-out training prompts, greedily, while its KL from the reference was
under the bound. Where several processes train, all of them run this loop, each with its share of the rows (share.py).

Deviations from 2403.17031, which trains whole models: adapters, and unless the recipe asks for more, a value head on the
policy's trunk rather than a value model; the score of an answer that was cut off is lowered, not replaced by a constant;
log-probabilities and values come from the sampling pass itself where the base is float32 (in 16 bits they are computed again,
since there the two ways of computing differ by more than a step changes).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Ppo
from rlaif_dagster.training import memory, metrics
from rlaif_dagster.training.ppo import checkpoint, draws, guards
from rlaif_dagster.training.ppo.advantages import gae, whiten
from rlaif_dagster.training.ppo.assemble import make_models, make_source
from rlaif_dagster.training.ppo.backbone import acting_as
from rlaif_dagster.training.ppo.checkpoint import Progress
from rlaif_dagster.training.ppo.controller import next_coefficient
from rlaif_dagster.training.ppo.held_out import Evaluation, evaluate
from rlaif_dagster.training.ppo.judged import DirectJudge
from rlaif_dagster.training.ppo.losses import explained_variance
from rlaif_dagster.training.ppo.prompts import split_prompts
from rlaif_dagster.training.ppo.publish import publish
from rlaif_dagster.training.ppo.rewards import kl_estimate, shape_rewards
from rlaif_dagster.training.ppo.rollout import Rollout, answer_states, roll_out, score_tokens
from rlaif_dagster.training.ppo.share import Share
from rlaif_dagster.training.ppo.sources import RewardSource, Scale, WeightedSum, told
from rlaif_dagster.training.ppo.update import (
    Experience,
    NotFiniteError,
    make_optimizer,
    set_learning_rates,
    update_policy,
)
from rlaif_dagster.training.trained import Trained


def train_ppo(
    lm: LanguageModel,
    reward: Path | RewardSource | None,
    prompts: pd.DataFrame,
    recipe: Ppo,
    *,
    seed: int,
    work: Path,
    target: Path,
    start_adapter: Path | None,
    judge: DirectJudge | None = None,
) -> Trained:
    """Train the policy on the `train` prompts and write one peft adapter on the plain base to the empty folder `target`.

    `lm` is a fresh base model and is altered. `reward` is a trained reward model's folder, or anything that scores answers, in
    place of what the recipe names; with `judge` answers are judged directly where the recipe gives the judge a weight.
    `start_adapter` is the SFT adapter that the policy starts from and is held to; None starts from the base. The same call again
    with the same `work` goes on where it was killed and ends with the same adapter. Of several processes the first returns; the
    others raise Followed.

    Metrics have a row an update (held-out ones also at 0, the start). Checks: finite_loss, kl, collapse. Raises UserError when
    prompts, adapters or architecture do not fit.
    """
    memory.reset_peak()
    training = _Training(lm, reward, prompts, recipe, seed, work, start_adapter, judge)
    training.run()
    training.share.leave_to_first()
    return training.publish(target, start_adapter)


class _Training:
    """The state of one training and its steps."""

    def __init__(
        self,
        lm: LanguageModel,
        reward: Path | RewardSource | None,
        prompts: pd.DataFrame,
        recipe: Ppo,
        seed: int,
        work: Path,
        start_adapter: Path | None,
        judge: DirectJudge | None,
    ) -> None:
        self.recipe, self.seed, self.work, self.share = recipe, seed, work, Share.here()
        self.prompts, self.held_out, too_long = split_prompts(lm, prompts, recipe)
        folder = reward if isinstance(reward, Path) else None
        self.backbone, head = make_models(lm, folder, recipe, seed=seed, start=start_adapter)
        self.source: RewardSource
        if reward is None or isinstance(reward, Path):
            answered = self.prompts.and_also(self.held_out)
            self.source = make_source(self.backbone, head, judge, recipe, answered, work, self.share)
        else:
            self.source = reward
        self.optimizer = make_optimizer(self.backbone, recipe)
        meaning = {name: value for name, value in recipe.meaning().items() if name != "seeds"}
        self.identity = content_hash(meaning, seed, lm.spec.revision, self.prompts.ids, self.held_out.ids)
        self.started = time.perf_counter()
        self.phases: dict[str, float] = {}
        stored = checkpoint.load(work, self.identity, self.optimizer)
        if stored is not None:
            self.progress, policy = stored
            self.backbone.load_policy(policy)
            if isinstance(self.source, WeightedSum):
                self.source.scales = {name: Scale(*scale) for name, scale in self.progress.part_scales.items()}
        else:
            self.progress = Progress(kl_coefficient=recipe.kl_coefficient)
            self._calibrate()
            self._record(0, {"prompts": len(self.prompts.texts), "prompts_too_long": too_long})
            self._evaluate()
            self.progress.timings.append({"update": 0, **self.phases})
        self.earlier = self.progress.seconds

    # --- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Every update that is left, with a checkpoint after every `save_updates` and after the last."""
        recipe, progress = self.recipe, self.progress
        bar = tqdm(
            total=recipe.updates, initial=progress.update, desc="ppo", unit="update", file=sys.stderr, mininterval=1,
            disable=None,
        )  # fmt: skip
        while progress.update < recipe.updates and progress.stopped is None:
            try:
                self._update()
            except NotFiniteError as error:
                self._stop(
                    guards.FINITE, f"training stopped in update {progress.update + 1}: {error}; lower learning_rate"
                )
            last = progress.update == recipe.updates or progress.stopped is not None
            if last or progress.update % recipe.evaluate_updates == 0:
                self._evaluate()
            progress.timings.append({"update": progress.update, **self.phases})
            if last or progress.update % recipe.save_updates == 0:
                self._save()
            bar.set_postfix(self._shown(), refresh=False)
            bar.update(progress.update - bar.n)
        bar.close()

    def _update(self) -> None:
        """One rollout and what is learnt from it; afterwards `progress.update` has moved on, unless a guard stopped."""
        recipe, progress, backbone = self.recipe, self.progress, self.backbone
        self.phases = {}
        number = progress.update
        with self._timed("sampling"):
            own = self._roll_out(number)
        with self._timed("scoring"):
            own, reference = self._compare(own)
            rollout = own.joined(self.share)
            scores = self._score(rollout)
            known = dict(told(self.source))
        kl = kl_estimate(rollout.logprobs, reference, recipe.kl_estimator).masked_fill(~rollout.mask, 0.0)
        response_kl = float(kl.sum(1).mean())
        if not (bool(torch.isfinite(scores).all()) and math.isfinite(response_kl)):
            nothing = torch.zeros_like(kl)
            self._save_batch(Experience(rollout, nothing, nothing, nothing), scores)
            raise NotFiniteError(f"mean score {float(scores.mean())}, KL {response_kl} nats a response")
        progress.largest_kl = max(progress.largest_kl, response_kl)
        if response_kl > recipe.max_kl:
            self._stop(
                guards.KL,
                f"training stopped after update {number}: mean KL {response_kl:.3g} nats a response, at most {recipe.max_kl:g} "
                f"allowed; the policy after update {progress.good_update} is the last under it",
            )
            return
        progress.good, progress.good_update = backbone.policy_state(), number
        experience, normalized = self._experience(own, rollout, scores, kl)
        with self._timed("updating"):
            set_learning_rates(self.optimizer, recipe, number)
            try:
                learnt = update_policy(
                    backbone, self.optimizer, experience, recipe, seed=self.seed, update=number, share=self.share
                )
            except NotFiniteError:
                self._save_batch(experience, scores)
                raise
        progress.update += 1
        sequence_tokens = sum(map(len, rollout.sequences(range(len(rollout.prompts)))))
        progress.tokens += int(rollout.lengths.sum()) + recipe.epochs * sequence_tokens
        self._record(
            progress.update,
            {
                "reward": float(scores.mean()),
                "reward_normalized": float(normalized.mean()),
                "kl_reference": response_kl,
                "kl_coefficient": progress.kl_coefficient,
                "response_length": float(rollout.lengths.float().mean()),
                "eos_rate": float(rollout.ended.float().mean()),
                "distinct": len(set(rollout.texts)) / len(rollout.texts),
                "explained_variance": float(explained_variance(experience.values, experience.returns, rollout.mask)),
                **learnt,
                **known,
            },
        )
        progress.kl_coefficient = next_coefficient(progress.kl_coefficient, response_kl, recipe.kl_target)

    def _roll_out(self, number: int) -> Rollout:
        """This process's answers; every answer's draws are its own, whoever samples it."""
        recipe = self.recipe
        chosen = draws.batch(len(self.prompts.ids), recipe.rollout_batch, number, self.seed)
        uniform = torch.rand(
            recipe.rollout_batch,
            recipe.max_new_tokens,
            generator=draws.generator(self.seed, "answers", number),
            dtype=torch.float64,
        )
        return roll_out(
            self.backbone,
            [self.prompts.texts[place] for place in self.share.of(chosen)],
            [self.prompts.ids[place] for place in self.share.of(chosen)],
            max_new_tokens=recipe.max_new_tokens,
            temperature=recipe.temperature,
            draws=self.share.of(uniform),
        )

    def _compare(self, own: Rollout) -> tuple[Rollout, Tensor]:
        """This process's answers with log-probabilities that can be compared with the reference's, and those of all answers,
        [B, T]."""
        size = {"temperature": self.recipe.temperature, "micro_batch": self.recipe.rollout_batch}
        with acting_as(self.backbone, "reference"):
            reference, _ = score_tokens(self.backbone, own, **size)
        if self.backbone.output_weight.dtype != torch.float32:
            own = own.with_states(*score_tokens(self.backbone, own, **size))
        return own, self.share.rows(reference)

    def _score(self, rollout: Rollout) -> Tensor:
        """Raw scores [B]."""
        scores = self.source.score(rollout.prompts, rollout.texts, rollout.answer_ids)
        return torch.as_tensor(scores, dtype=torch.float32).to(self.backbone.lm.device)

    def _experience(self, own: Rollout, rollout: Rollout, scores: Tensor, kl: Tensor) -> tuple[Experience, Tensor]:
        """The rollout, of which `own` is this process's part, with values, advantages and returns; and the scores as the policy
        is paid them, [B]."""
        recipe, progress = self.recipe, self.progress
        if progress.scale is None:
            scale = Scale.of(scores) if recipe.normalize_reward else Scale()
            progress.scale = (scale.mean, scale.deviation)
            self._rescale_values(scale)
        normalized = Scale(*progress.scale).apply(scores)
        rewards = shape_rewards(
            normalized,
            kl,
            rollout.mask,
            rollout.ended,
            kl_coefficient=progress.kl_coefficient,
            missing_eos_penalty=recipe.missing_eos_penalty,
        )
        values = self.share.rows(self._values(own))
        advantages, returns = gae(rewards, values, rollout.mask, recipe.gamma, recipe.gae_lambda)
        if recipe.whiten_advantages:
            advantages = whiten(advantages, rollout.mask)
        return Experience(rollout, values, advantages, returns), normalized

    @torch.no_grad()
    def _values(self, rollout: Rollout) -> Tensor:
        """What the value function expects at every answer token, [B, T]."""
        if not self.backbone.own_value:
            return self.backbone.values(rollout.hidden).masked_fill(~rollout.mask, 0.0)
        with acting_as(self.backbone, "value"):
            states = answer_states(self.backbone, rollout, micro_batch=self.recipe.rollout_batch)
        return torch.zeros_like(rollout.logprobs).masked_scatter(rollout.mask, self.backbone.values(states))

    @torch.no_grad()
    def _rescale_values(self, scale: Scale) -> None:
        """Let a value function that starts as the reward model expect scores in the units that are paid."""
        weight, mean, deviation = 1.0, 0.0, 1.0
        if isinstance(self.source, WeightedSum):
            weight, own = self.recipe.reward.model, self.source.scales["model"]
            mean, deviation = own.mean, own.deviation
        head = self.backbone.value_head
        head.weight.mul_(weight / deviation / scale.deviation)
        if bool(head.weight.any()):
            head.bias.fill_(-(weight * mean / deviation + scale.mean) / scale.deviation)

    def _calibrate(self) -> None:
        """Fix the units of a sum of scores by the answers of the first rollout, which does not change them."""
        if isinstance(self.source, WeightedSum):
            rollout = self._roll_out(0).joined(self.share)
            self.source.calibrate(rollout.prompts, rollout.texts, rollout.answer_ids)
            scales = self.source.scales.items()
            self.progress.part_scales = {name: (scale.mean, scale.deviation) for name, scale in scales}

    # --- guards, checkpoints, metrics ------------------------------------------------------------------------------------

    def _stop(self, guard: str, message: str) -> None:
        """End the training with the last policy that was seen to be good."""
        self.progress.stopped = (guard, message)
        if self.progress.good:
            self.backbone.load_policy(self.progress.good)
            self.progress.update = self.progress.good_update

    def _evaluate(self) -> None:
        """Measure the policy on the held-out prompts, and remember it where it is the best so far under the KL bound."""
        progress = self.progress
        update = progress.update
        if str(update) in progress.evaluations:
            return
        with self._timed("evaluating"):
            found = evaluate(self.backbone, self.source, self.held_out, self.recipe, self.share)
        progress.evaluations[str(update)] = vars(found)
        self._record(update, found.metrics())
        best = (
            progress.evaluations[str(progress.best_update)]["reward"] if progress.best_update is not None else -math.inf
        )
        if update > 0 and found.kl <= self.recipe.max_kl and found.reward > best:
            progress.best_update, progress.best = update, self.backbone.policy_state()

    def _save(self) -> None:
        self.progress.seconds = self.earlier + time.perf_counter() - self.started

        def save() -> None:
            checkpoint.save(self.work, self.identity, self.progress, self.backbone.policy_state(), self.optimizer)

        self.share.in_first(save)

    def _save_batch(self, experience: Experience, scores: Tensor) -> None:
        self.share.in_first(partial(checkpoint.save_batch, self.work, experience, scores))

    def _record(self, update: int, values: dict[str, float]) -> None:
        self.progress.rows += metrics.at(update, values)

    def _shown(self) -> dict[str, str]:
        last = {name: value for _, name, value in self.progress.rows}
        return {name: f"{last[name]:.3g}" for name in ("reward", "kl_reference", "held_out_reward") if name in last}

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.phases[phase] = time.perf_counter() - start

    def publish(self, target: Path, start_adapter: Path | None) -> Trained:
        """The best policy that was measured; where none was under the bound, the last that was good."""
        progress = self.progress
        update = progress.best_update if progress.best_update is not None else progress.update
        state = progress.best if progress.best_update is not None else self.backbone.policy_state()
        publish(self.backbone, state, progress.timings, start_adapter=start_adapter, target=target)
        self._record(self.recipe.updates, {"published_update": update})
        verdicts = guards.checks(
            self.recipe,
            stopped=progress.stopped,
            largest_kl=progress.largest_kl,
            start=Evaluation(**progress.evaluations["0"]),
            published=Evaluation(**progress.evaluations[str(update)]),
            published_update=update,
        )
        return Trained(
            metrics=metrics.frame(progress.rows),
            tokens=progress.tokens,
            seconds=progress.seconds,
            peak_memory_bytes=memory.peak_bytes(),
            checks=verdicts,
        )
