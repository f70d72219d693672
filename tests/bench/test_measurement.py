"""The one line of JSON that a part ends with."""

from __future__ import annotations

import json
import os
import platform

import pytest

from bench.measurement import Measurement, machine, processor_name

CPUINFO = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nprocessor\t: 1\nmodel name\t: Some CPU @ 2.00GHz\n"


def test_the_line_is_one_json_object_with_four_significant_digits() -> None:
    measured = Measurement("ppo", {"memory": 0.312345}, {"bytes": 2_123_456_789, "s": {"a": 123.456}}, {"s": 1e-7}, "m")
    line = measured.line()
    assert "\n" not in line
    assert json.loads(line) == {
        "part": "ppo",
        "ratios": {"memory": 0.3123},
        "ours": {"bytes": 2_123_456_789, "s": {"a": 123.5}},
        "peer": {"s": 1e-7},
        "machine": "m",
    }


def test_what_json_cannot_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Measurement("ppo", {"memory": float("nan")}, {}, {}, "m").line()


def test_the_machine_names_processor_cores_threads_and_accelerator() -> None:
    assert processor_name(CPUINFO) == "Some CPU @ 2.00GHz"
    assert processor_name("processor\t: 0\n") in (platform.processor(), platform.machine())
    assert machine(threads=3).endswith(f", cores: {os.cpu_count()}, threads: 3")
    assert machine(3, "Some GPU").endswith(", threads: 3, Some GPU")
