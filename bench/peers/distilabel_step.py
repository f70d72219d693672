"""distilabel's text generation step with its litellm model, on the questions of a file, in batches as large as the
concurrency. Runs in an environment of its own (`bench.judge` makes it) and prints one JSON object: wall and CPU seconds
and the answers.

    python distilabel_step.py QUESTIONS.json URL CONCURRENCY WARM_UP
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(file: str, url: str, concurrency: int, warm_up: int) -> None:
    """Answer everything, the first `warm_up` questions before the clock starts."""
    from distilabel.models.llms import LiteLLM
    from distilabel.steps.tasks import TextGeneration

    questions: list[dict[str, Any]] = json.loads(Path(file).read_text(encoding="utf-8"))
    llm = LiteLLM(
        model="openai/test",
        generation_kwargs={"api_base": url, "api_key": "none", "temperature": 0.0, "max_tokens": 256},
    )
    step = TextGeneration(llm=llm, use_system_prompt=True, input_batch_size=concurrency)
    step.load()

    def answered(part: list[dict[str, Any]]) -> list[str]:
        out = []
        for start in range(0, len(part), concurrency):
            for rows in step.process(part[start : start + concurrency]):
                out += [row["generation"] for row in rows]
        return out

    answered(questions[:warm_up])
    wall, cpu = time.perf_counter(), time.process_time()
    answers = answered(questions[warm_up:])
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps(taken | {"answers": answers}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
