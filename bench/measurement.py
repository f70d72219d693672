"""What a part hands over: its numbers as one line of JSON, and the machine that they were taken on."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIGITS = 4  # significant ones; more would be noise
AS_ITS_USERS = {"GOMP_SPINCOUNT": "300000"}
"""OpenMP's own default for a peer, whose users do not have what this package sets (`rlaif_dagster/__init__.py`)."""


class WrongResult(Exception):
    """What was measured did not do what it should have done, so its speed means nothing."""


@dataclass(frozen=True)
class Measurement:
    """One part. `ratios` hold ours over the peer's, empty where there is no peer; `ours` and `peer` hold what the
    ratios were made of."""

    part: str
    ratios: Mapping[str, float]
    ours: Mapping[str, Any]
    peer: Mapping[str, Any]
    machine: str

    def line(self) -> str:
        """The JSON object, on one line. Raises ValueError for a number that JSON cannot hold (NaN, infinity)."""
        content = {
            "part": self.part,
            "ratios": self.ratios,
            "ours": self.ours,
            "peer": self.peer,
            "machine": self.machine,
        }
        return json.dumps(_rounded(content), ensure_ascii=False, allow_nan=False)


def machine(threads: int, accelerator: str | None = None) -> str:
    """Processor, its cores, the threads that computed, and the accelerator where one was used."""
    cpuinfo = Path("/proc/cpuinfo")
    processor = processor_name(cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else "")
    return ", ".join(
        [processor, f"cores: {os.cpu_count() or 1}", f"threads: {threads}"] + ([accelerator] if accelerator else [])
    )


def processor_name(cpuinfo: str) -> str:
    """The model's name in the text of Linux's /proc/cpuinfo, else what Python knows (macOS, many ARM boards)."""
    found = re.search(r"^model name\s*:\s*(\S.*)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine() or "unknown processor"


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
