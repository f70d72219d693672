"""Our judge on the pairs of `bench.judge`, in a process of its own; prints one JSON object: wall and CPU seconds and the
answers.

    python -m bench.judge_run URL HOME CONCURRENCY WARM_UP VERDICTS
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bench.judge import LAW, ORDERS, pairs_of
from rlaif_dagster.home import Home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.shards import release
from rlaif_dagster.spec.judge import ApiJudge as Spec


def main(url: str, home: str, concurrency: int, warm_up: int, verdicts: int) -> None:
    """Judge everything, the first `warm_up` verdicts before the clock starts."""
    spec = Spec(kind="api", model="openai/test", api_base=url, concurrency=concurrency)
    judge = ApiJudge("bench", spec, Home(Path(home)))
    pairs = pairs_of(warm_up + verdicts)
    judge.judge(pairs[: warm_up // 2], LAW, ORDERS)
    release()  # of shards, where RLAIF_SHARDS asks for some: every step starts its own
    wall, cpu = time.perf_counter(), time.process_time()
    judged = judge.judge(pairs[warm_up // 2 :], LAW, ORDERS)
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps(taken | {"answers": judged["raw"].tolist()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))
