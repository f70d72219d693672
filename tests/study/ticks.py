"""Ticks of the real sensor against an ephemeral instance, in a process of its own: `python -m tests.study.ticks`.

The code location reads data/ when it loads, so every study needs its own process. One JSON object a line comes in on
stdin, one goes out on stdout. `tick` evaluates the sensor once, as the daemon does (observations are reported, a run key
is used once), and carries out what it asks for; `settle` ticks until it asks for nothing.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any
from unittest.mock import patch

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository

warnings.filterwarnings("ignore")
from assets import schedules  # noqa: E402
from assets.sensors import follow_edits  # noqa: E402
from rlaif_dagster.definitions import defs  # noqa: E402
from rlaif_dagster.home import CHECKOUT  # noqa: E402

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
CODE_LOCATION = ReconstructableRepository.for_module("rlaif_dagster.definitions", "defs", str(CHECKOUT))


class Daemon:
    """What Dagster's daemon does with one sensor, in one process, with a clock that the test moves."""

    def __init__(self) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.used: set[str | None] = set()
        self.offset = 0.0

    def tick(self, execute: bool = True) -> dict[str, Any]:
        """One evaluation; the requests that Dagster would not drop, whether their runs went well, and the reason of a
        tick that asked for nothing."""
        shifted = time.time() + self.offset
        known = dict(defs.resources or {})
        with (
            dg.build_sensor_context(instance=self.instance, definitions=defs, resources=known) as context,
            patch("assets.sensors.time.time", lambda: shifted),
        ):
            result = follow_edits.evaluate_tick(context)  # with what Dagster makes of the requests
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        new = [request for request in result.run_requests if request.run_key not in self.used]
        self.used |= {request.run_key for request in new}
        return {
            "asked": [[str(r.asset_selection[0].to_user_string()), r.partition_key] for r in new],
            "well": [self.execute(r) for r in new] if execute else [],
            "dropped": len(result.run_requests) - len(new),
            "observed": [[e.asset_key.to_user_string(), e.partition] for e in result.asset_events],
            "reason": result.skip_message,
        }

    def execute(self, request: dg.RunRequest) -> bool:
        """The run as it is asked for, by the executor that its configuration chooses."""
        job = CODE_LOCATION.get_reconstructable_job(request.job_name)
        chosen, tags = request.asset_selection, dict(request.tags)
        if request.partition_key:
            tags |= job.get_definition().get_tags_for_partition_key(request.partition_key, selected_asset_keys=chosen)
        config = QUIET | request.run_config
        done = dg.execute_job(job, self.instance, run_config=config, tags=tags, asset_selection=chosen)
        return bool(done.success)

    def settle(self) -> dict[str, Any]:
        """All requests until one tick asks for nothing."""
        ticks = []
        while not ticks or ticks[-1]["asked"]:
            ticks.append(self.tick())
        return {
            "asked": [asked for tick in ticks for asked in tick["asked"]],
            "well": [well for tick in ticks for well in tick["well"]],
            "dropped": sum(tick["dropped"] for tick in ticks),
            "observed": [seen for tick in ticks for seen in tick["observed"]],
            "reason": ticks[-1]["reason"],
        }

    def schedule(self, name: str) -> dict[str, Any]:
        """One evaluation of a schedule, and the backfills that are there afterwards."""
        known = dict(defs.resources or {})
        here = property(lambda _: self.instance)  # its own way to the instance is a reference, which this one has not
        with (
            dg.build_schedule_context(repository_def=defs.get_repository_def(), resources=known) as context,
            patch.object(dg.ScheduleEvaluationContext, "instance", here),
        ):
            told = getattr(schedules, name)(context)
        return {"told": told.skip_message, "backfills": [self._described(one) for one in self.instance.get_backfills()]}

    @staticmethod
    def _described(backfill: Any) -> dict[str, Any]:
        target = backfill.asset_backfill_data.target_subset.iterate_asset_partitions()
        return {
            "tags": dict(backfill.tags), "title": backfill.title, "status": backfill.status.value,
            "target": sorted([[one.asset_key.to_user_string(), one.partition_key] for one in target], key=str),
        }  # fmt: skip

    def end_backfills(self) -> None:
        from dagster._core.execution.backfill import BulkActionStatus

        for backfill in self.instance.get_backfills():
            self.instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))

    def run_tagged(self, asset: str, partition: str | None, tags: dict[str, str]) -> dict[str, Any]:
        """One step as a backfill runs it; what it told Dagster of itself."""
        job = defs.resolve_job_def("each_model_constitution" if "|" in (partition or "") else "each_model")
        done = job.execute_in_process(
            instance=self.instance, partition_key=partition, asset_selection=[dg.AssetKey(asset)], tags=tags,
            run_config=QUIET,
        )  # fmt: skip
        [made] = [event for event in done.all_events if event.is_step_materialization]
        metadata = made.step_materialization_data.materialization.metadata
        return {key: value.value for key, value in metadata.items() if isinstance(value.value, str | int | float)}

    def later(self, seconds: float) -> None:
        self.offset += seconds

    def start_elsewhere(self, asset: str, partition: str | None) -> str:
        """A run of somebody else's that is under way."""
        job = defs.resolve_job_def("each_model_constitution")
        run = self.instance.create_run_for_job(
            job, asset_selection=frozenset({dg.AssetKey(asset)}), tags={"dagster/partition": partition} if partition else {},
            status=dg.DagsterRunStatus.STARTED,
        )  # fmt: skip
        return run.run_id

    def end_elsewhere(self, run_id: str) -> None:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        self.instance.report_run_canceled(run)


def main() -> None:
    daemon = Daemon()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(daemon, command.pop("do"))(**command)
        except Exception as error:  # the test asserts on it: a tick that fails is shown by the daemon in the same way
            answer = {"error": f"{type(error).__name__}: {error}"}
        print("REPLY " + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
