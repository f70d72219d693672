"""`rlaif ui` as a user starts it, and its GraphQL: what the page itself asks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rlaif_dagster.home import CHECKOUT

SECONDS_TO_START = 240.0
RUNS = """{runsOrError{... on Runs{results{
  runId status jobName creationTime assetSelection{path} tags{key value}
}}}}"""
BACKFILLS = """{partitionBackfillsOrError{... on PartitionBackfills{results{
  id status title tags{key value} assetBackfillData{assetBackfillStatuses{
    ... on AssetPartitionsStatusCounts{assetKey{path} numPartitionsTargeted}
    ... on UnpartitionedAssetStatus{assetKey{path}}
}}}}}}"""
STALE = """query($key: AssetKeyInput!, $partition: String){assetNodeOrError(assetKey: $key){... on AssetNode{
  staleStatus(partition: $partition)
}}}"""


class Dagster:
    """The web server, the daemon and the code location, until the block ends."""

    def __init__(self, environment: Mapping[str, str], folder: Path = CHECKOUT) -> None:
        """`folder` holds the project's code."""
        self.environment, self.folder = dict(environment), folder
        with socket.socket() as probe, socket.socket() as other:
            for one in (probe, other):
                one.bind(("127.0.0.1", 0))
            self.port, self.reports_port = (int(one.getsockname()[1]) for one in (probe, other))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Dagster:
        command = [sys.executable, "-m", "rlaif_dagster.cli.main", "ui", "--port", str(self.port)]
        command += ["--reports-port", str(self.reports_port)]
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + SECONDS_TO_START
        while not self._location():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise TimeoutError(f"`rlaif ui` did not answer within {SECONDS_TO_START:.0f} s")
            time.sleep(0.5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL answer."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())["data"]

    def _location(self) -> dict[str, str] | None:
        query = "{repositoriesOrError{... on RepositoryConnection{nodes{name location{name}}}}}"
        try:
            nodes = self.ask(query)["repositoriesOrError"].get("nodes")
        except OSError:
            return None
        return (
            {"repositoryName": nodes[0]["name"], "repositoryLocationName": nodes[0]["location"]["name"]}
            if nodes
            else None
        )

    def reload(self) -> None:
        """What "Reload definitions" in the UI does."""
        mutation = "mutation($l: String!){reloadRepositoryLocation(repositoryLocationName: $l){__typename}}"
        answer = self.ask(mutation, l=(self._location() or {})["repositoryLocationName"])
        if answer["reloadRepositoryLocation"]["__typename"] != "WorkspaceLocationEntry":
            raise RuntimeError(f"reload: {answer}")

    def switch_on(self, sensor: str) -> None:
        """What the switch in the UI does."""
        mutation = "mutation($s: SensorSelector!){startSensor(sensorSelector: $s){__typename}}"
        answer = self.ask(mutation, s={**(self._location() or {}), "sensorName": sensor})
        if answer["startSensor"]["__typename"] != "Sensor":
            raise RuntimeError(f"sensor {sensor}: {answer}")

    def switch_off(self, sensor: str) -> None:
        query = "query($s: SensorSelector!){sensorOrError(sensorSelector: $s){... on Sensor{id sensorState{id}}}}"
        found = self.ask(query, s={**(self._location() or {}), "sensorName": sensor})["sensorOrError"]
        answer = self.ask("mutation($id: String!){stopSensor(id: $id){__typename}}", id=found["id"])
        if answer["stopSensor"]["__typename"] != "StopSensorMutationResult":
            raise RuntimeError(f"sensor {sensor}: {answer}")

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """Its latest ticks, newest first."""
        query = """query($s: SensorSelector!){sensorOrError(sensorSelector: $s){... on Sensor{sensorState{
          ticks(limit: 20){status timestamp endTimestamp skipReason runIds error{message errorChain{error{message}}}}}}}}"""
        answer = self.ask(query, s={**(self._location() or {}), "sensorName": sensor})
        found: list[dict[str, Any]] = answer["sensorOrError"]["sensorState"]["ticks"]
        return found

    def would_ask(self, sensor: str) -> list[dict[str, str]]:
        """What the UI's "Preview tick result" of a sensor shows: the tags of the runs that it would ask for now."""
        mutation = """mutation($s: SensorSelector!){sensorDryRun(selectorData: $s, cursor: ""){
          __typename ... on PythonError{message causes{message}}
          ... on DryRunInstigationTick{evaluationResult{runRequests{tags{key value}} error{message}}}}}"""
        answer = self.ask(mutation, s={**(self._location() or {}), "sensorName": sensor})
        result = answer["sensorDryRun"].get("evaluationResult")
        if result is None or result["error"]:
            raise RuntimeError(f"sensor {sensor}: {answer}")
        return [{tag["key"]: tag["value"] for tag in one["tags"]} for one in result["runRequests"] or ()]

    def tick_now(self, schedule: str) -> None:
        """What the UI's "Preview tick result" does: the code location evaluates the schedule, on the real instance."""
        mutation = """mutation($s: ScheduleSelector!, $t: Float){scheduleDryRun(selectorData: $s, timestamp: $t){
          __typename ... on DryRunInstigationTick{evaluationResult{skipReason error{message}}}}}"""
        answer = self.ask(mutation, s={**(self._location() or {}), "scheduleName": schedule}, t=time.time())
        result = answer["scheduleDryRun"].get("evaluationResult")
        if result is None or result["error"]:
            raise RuntimeError(f"schedule {schedule}: {answer}")

    def runs(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        found: list[dict[str, Any]] = self.ask(RUNS)["runsOrError"]["results"]
        return found

    def backfills(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(BACKFILLS)["partitionBackfillsOrError"]["results"]
        return found

    def staleness(self, asset: str, partition: str | None) -> str:
        """FRESH, STALE or MISSING, as the graph shows it."""
        answer = self.ask(STALE, key={"path": [asset]}, partition=partition)
        return str(answer["assetNodeOrError"]["staleStatus"])


def targeted(backfill: Mapping[str, Any]) -> int:
    """How many assets' partitions a backfill is to make; an asset without partitions counts as one."""
    return sum(one.get("numPartitionsTargeted", 1) for one in backfill["assetBackfillData"]["assetBackfillStatuses"])


def made_in(run: Mapping[str, Any]) -> list[str]:
    """Names of the assets that a run makes."""
    return sorted(key["path"][0] for key in run["assetSelection"] or ())
