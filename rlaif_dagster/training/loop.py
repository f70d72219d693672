"""The training loop that SFT, the reward model and DPO share, around TRL's trainers.

What is added to them: checkpoints that survive a kill and are found again, a stop at the first number that is not finite
(before it reaches the weights), one progress bar, and silence otherwise. TRL's own telemetry and model cards are off:
training sends nothing anywhere.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback
from trl.trainer import utils as trl_internals

from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Optimization
from rlaif_dagster.training import checkpoints, memory
from rlaif_dagster.training.metrics import Row, curves
from rlaif_dagster.training.processes import Followed, first_process_first, own_batches, share
from rlaif_dagster.training.quiet import quiet
from rlaif_dagster.training.trained import Check


class NotFiniteError(Exception):
    """A loss or a gradient norm that is NaN or infinite; no optimizer step was taken with it."""


class Guarded:
    """Put before a TRL trainer: stops at numbers that are not finite, and keeps the trainer to itself."""

    state: Any
    args: Any

    def training_step(self, *args: Any, **keywords: Any) -> torch.Tensor:
        loss = super().training_step(*args, **keywords)  # type: ignore[misc]
        self._require_finite("loss", float(loss))
        return loss

    def get_train_dataloader(self) -> Any:
        """Trainer's own; in several processes, of this one's part of every batch. (Trainer would fill up a short last batch
        with examples from the beginning.)"""
        loader = super().get_train_dataloader()  # type: ignore[misc]
        if self.args.world_size == 1:
            return loader
        batches = [*own_batches(len(loader.dataset), self.global_batch, self.args.process_index, self.args.world_size)]
        return DataLoader(
            loader.dataset,
            batch_sampler=batches,
            collate_fn=loader.collate_fn,
            pin_memory=self.args.dataloader_pin_memory,
        )

    @property
    def global_batch(self) -> int:
        """Examples of one step of the gradient, over all processes."""
        return int(self.args.per_device_train_batch_size * self.args.world_size)

    def _get_grad_norm(self, *args: Any, **keywords: Any) -> Any:
        norm = super()._get_grad_norm(*args, **keywords)  # type: ignore[misc]
        if not self.args.fp16:  # the loss scaler of fp16 meets infinite gradients by design, and skips those steps
            self._require_finite("gradient norm", float(norm))
        return norm

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise NotFiniteError(f"{what} {value} at step {self.state.global_step + 1} of {self.state.max_steps}")

    def _send_telemetry(self) -> None:
        """Nothing is reported to anyone."""

    def create_model_card(self, *args: Any, **keywords: Any) -> None:
        """Published models get this project's own card."""


class Stopwatch:
    """Seconds spent on a training over all its calls, from the checkpoint that the call resumes from."""

    def __init__(self, work: Path) -> None:
        resumed = checkpoints.latest(work)
        self._earlier = resumed.seconds if resumed else 0.0
        self._started = time.perf_counter()
        memory.reset_peak()

    def seconds(self) -> float:
        return self._earlier + time.perf_counter() - self._started


class _Marker(TrainerCallback):
    """Marks each checkpoint whole once the Trainer has written it."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            checkpoints.mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.watch.seconds())


class _Bar(TrainerCallback):
    """One bar on a terminal, with the latest loss; none in a log file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: tqdm | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc=self.name, unit="step", file=sys.stderr, mininterval=1,
            disable=None if state.is_world_process_zero else True,
        )  # fmt: skip

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if self.bar is not None and logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.4g}", refresh=False)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def arguments(kind: Any, recipe: Optimization, lm: LanguageModel, *, seed: int, work: Path, **own: Any) -> Any:
    """The trainer's arguments (TRL's configuration class `kind`) for a recipe; `own` are those of one stage.

    The order of the examples is fixed beforehand (`training_order`), all epochs in one pass. On CUDA a base in half
    precision is trained under autocast, with the adapter in float32; elsewhere nothing is cast. A process trains on one GPU,
    however many it sees; more take RLAIF_PROCESSES.
    """
    cuda = lm.device.type == "cuda"
    half = cuda and lm.model.dtype != torch.float32
    bf16 = half and torch.cuda.is_bf16_supported()
    with quiet():
        made = kind(
            output_dir=str(work), seed=seed, use_cpu=not cuda, bf16=bf16, fp16=half and not bf16,
            num_train_epochs=1, train_sampling_strategy="sequential",
            per_device_train_batch_size=share(recipe.batch_size), gradient_accumulation_steps=recipe.gradient_accumulation,
            learning_rate=recipe.learning_rate, lr_scheduler_type=recipe.lr_scheduler, warmup_steps=recipe.warmup_ratio,
            max_grad_norm=recipe.max_grad_norm, gradient_checkpointing=recipe.gradient_checkpointing,
            max_length=None, dataloader_num_workers=0, dataloader_pin_memory=cuda,
            logging_steps=recipe.logging_steps, logging_nan_inf_filter=False, report_to="none", disable_tqdm=True,
            ddp_find_unused_parameters=False, eval_strategy="no",
            save_strategy="steps", save_steps=recipe.save_steps, save_total_limit=checkpoints.KEPT,
            **own,
        )  # fmt: skip
    if (
        cuda and made.device
    ):  # which counts the GPUs; the trainer would take them all, by nn.DataParallel, which TRL refuses
        made._n_gpu = 1
    return made


@contextmanager
def _answers_only() -> Iterator[None]:
    """Compute the vocabulary's logits where an answer token is predicted, and nowhere else.

    TRL does so on GPUs; elsewhere it projects every position, prompt and padding too, to keep shapes constant for
    compilers. Nothing is compiled here, and on a CPU with a small model those positions are a fifth of the training time.
    """
    previous = trl_internals._use_triton
    trl_internals._use_triton = lambda device: True
    try:
        yield
    finally:
        trl_internals._use_triton = previous


@dataclass(frozen=True)
class Fitted:
    """What a loop left behind: its curves, how many steps it made, and whether all its numbers were finite."""

    rows: list[Row]
    step: int
    check: Check


def _steps(args: Any, examples: int) -> int:
    """Optimizer steps that so many examples make."""
    batches = math.ceil(examples / (args.train_batch_size * args.world_size))
    return math.ceil(batches / args.gradient_accumulation_steps)


def fit(trainer: Any, name: str, order: list[int], watch: Stopwatch) -> Fitted:
    """Train a `Guarded` trainer on its dataset in `order`, from the latest whole checkpoint in its output folder.

    A number that is not finite ends the training: the adapter is then as it was after the last good step. Raises Followed in
    all processes but the first, where there are several.
    """
    work = Path(trainer.args.output_dir)
    for parameter_name, parameter in trainer.model.named_parameters():
        if (
            parameter.requires_grad and ".lora_" in parameter_name
        ):  # TRL rounds adapters upon a quantized base to 16 bits, which swallow small steps
            parameter.data = parameter.data.float()
    bar = _Bar(name)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Marker(watch))
    trainer.add_callback(bar)
    trainer.train_dataset = trainer.train_dataset.select(order)
    if _steps(trainer.args, len(order)) == 1:
        trainer.args.warmup_steps = 0  # a warm-up begins at a rate of 0: the only step would teach nothing
    resumed = checkpoints.latest(work)
    with first_process_first():
        checkpoints.discard_incomplete(work)
    try:
        with quiet(), _answers_only():
            trainer.train(resume_from_checkpoint=str(resumed.path) if resumed else None)
        check = Check("finite_loss", True, f"every loss and gradient of {trainer.state.global_step} steps was finite")
    except NotFiniteError as error:
        check = Check(
            "finite_loss", False, f"training stopped: {error}, learning rate {trainer.args.learning_rate:g}; lower it"
        )
    finally:
        bar.close()
    if not trainer.is_world_process_zero():
        raise Followed
    trainer.model.eval()
    return Fitted(curves(trainer.state.log_history), trainer.state.global_step, check)
