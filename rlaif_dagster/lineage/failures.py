"""Why a run failed, in one line, from its events: those of a run that ended here, or those that Dagster keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import dagster as dg
from dagster import DagsterEventType as Type
from dagster._utils.error import SerializableErrorInfo

from rlaif_dagster.errors import UserError
from rlaif_dagster.lineage.runs import Failure

TELLING = {Type.ASSET_CHECK_EVALUATION, Type.STEP_FAILURE, Type.STEP_SUCCESS, Type.RUN_FAILURE}
UNKNOWN = Failure("the run failed; see its log in the UI")
OUT_OF_MEMORY = "torch.OutOfMemoryError"  # of a GPU; Ray has one of this name, of a node
REMEDY = (
    "the GPU's memory is not enough: for a training, lower batch_size in its recipe and raise gradient_accumulation by as much, "
    "or set gradient_checkpointing: true; `rlaif doctor` compares what is planned with what is there"
)
Events = Sequence[dg.DagsterEvent]


def kept_events(instance: dg.DagsterInstance, run_id: str) -> Events:
    """What of a run's events tells why it failed; its other events are not read."""
    entries = instance.all_logs(run_id, of_type=TELLING)
    return [entry.dagster_event for entry in entries if entry.dagster_event is not None]


def failed_in(run_id: str, asset: str, events_of: Callable[[str], Events]) -> str | None:
    """`run 1a2b3c4d failed: …` of an asset that the run was to make, with the asset that kept it from being made where that is
    another. None where the run did make it, and failed elsewhere."""
    events = events_of(run_id)
    own = [event for event in events if event.step_key == asset]
    if any(event.is_step_success for event in own):
        return None
    errors = [(event.step_key, found) for event in (*own, *events) if (found := _error_of(event))]
    step, failure = errors[0] if errors else (None, UNKNOWN)
    where = f" in {step}" if step not in (asset, None) else ""
    return f"run {run_id[:8]} failed{where}: {failure.line}"


def failure_in(events: Iterable[dg.DagsterEvent]) -> Failure:
    """The first error among a run's events: a failed check's numbers, the innermost exception, or how the run was ended."""
    events = list(events)
    checks = (event for event in events if event.event_type == Type.ASSET_CHECK_EVALUATION)
    others = (event for event in events if event.event_type != Type.ASSET_CHECK_EVALUATION)
    return next((found for event in (*checks, *others) if (found := _error_of(event))), UNKNOWN)


def _error_of(event: dg.DagsterEvent) -> Failure | None:
    if event.event_type == Type.ASSET_CHECK_EVALUATION:
        return _of_check(event.asset_check_evaluation_data)
    if event.is_step_failure:
        return _of_exception(event.step_failure_data.error, event)
    if event.is_job_failure:  # without data where Dagster or a command closed it
        return _of_exception(event.job_failure_data.error if event.event_specific_data else None, event)
    return None


def _of_check(evaluation: dg.AssetCheckEvaluation) -> Failure | None:
    """A check that only warns fails no run."""
    if evaluation.passed or evaluation.severity != dg.AssetCheckSeverity.ERROR:
        return None
    numbers = evaluation.metadata.get("numbers")
    return Failure(f"check {evaluation.check_name} failed: {numbers.value if numbers else ''}")


def _of_exception(error: SerializableErrorInfo | None, event: dg.DagsterEvent) -> Failure:
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return Failure(" ".join((event.message or UNKNOWN.line).split()))
    line, fixable = " ".join(error.message.split()), error.cls_name == UserError.__name__
    if OUT_OF_MEMORY in line:
        return Failure(f"{REMEDY} ({line})", fixable=True)
    return Failure(line.partition(": ")[2] if fixable else line, fixable)
