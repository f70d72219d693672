"""One side of `bench.evaluation` in a process of its own: `python -m bench.evaluation_sides ours|peer`, one JSON object a line.

The first line on stdin is the job; then a suite's name a line is answered by what evaluating it took and came to. A side that
is not asked waits, and takes nothing from the other. Each loads the model from its folder as lm-eval's users do.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

WARM_UP = "hellaswag"


def serve(side: str) -> None:
    """Answer on the standard output that the process began with; what libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import torch
    from lm_eval.models.huggingface import HFLM

    from bench.evaluation import load_suites, metrics, run_tasks
    from rlaif_dagster.evaluation.hf_prefix_sharing import PrefixSharingHFLM
    from rlaif_dagster.home import current_home
    from rlaif_dagster.language import onednn

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    kind: type[HFLM] = {"ours": PrefixSharingHFLM, "peer": HFLM}[side]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = kind(pretrained=job["weights"], dtype="float32", batch_size=job["batch"], device=device)
    suites = load_suites(Path(job["data"]) if job["data"] else None, current_home())
    run_tasks(model, suites[WARM_UP], 1)  # allocator, threads and lazy imports
    about = {"device": torch.cuda.get_device_name() if device == "cuda" else device, "threads": torch.get_num_threads()}
    _tell(out, about | {"onednn": side == "ours" and onednn.use()})
    for line in sys.stdin:
        suite = line.strip()
        start = time.perf_counter()
        results = run_tasks(model, suites[suite], job["items"][suite])
        seconds = time.perf_counter() - start
        items = sum(len(samples) for samples in results["samples"].values())
        _tell(out, {"seconds": seconds, "items": items, "metrics": metrics(results)})


def _tell(out: Any, content: dict[str, Any]) -> None:
    print(json.dumps(content), file=out, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
