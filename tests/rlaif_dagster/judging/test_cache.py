from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rlaif_dagster.judging.cache import Answer, open_cache

ANSWER = Answer('{"verdict": "A"}', "stop", 100, 20, 0.003, 12.5)
WRITER = """
import sys
from pathlib import Path
from rlaif_dagster.judging.cache import Answer, open_cache
with open_cache(Path(sys.argv[1])) as cache:
    for number in range(200):
        cache.put({f"{sys.argv[2]}-{number}": Answer(sys.argv[2], "stop", 1, 1, 0.0, 0.0)})
        cache.put({f"shared-{number}": Answer("same", "stop", 1, 1, 0.0, 0.0)})
"""


def test_what_was_put_is_found_again_by_another_connection(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "answers.sqlite"
    with open_cache(path) as cache:
        cache.put({"one": ANSWER})
        with open_cache(path) as other:  # committed, though the first connection is still open
            assert other.get(["one", "two"]) == {"one": ANSWER}


def test_the_first_answer_to_a_key_stays(tmp_path: Path) -> None:
    with open_cache(tmp_path / "c.sqlite") as cache:
        cache.put({"one": ANSWER})
        cache.put({"one": Answer("later", "stop", 1, 1, 0.0, 0.0)})
        assert cache.get(["one"]) == {"one": ANSWER}


def test_more_keys_than_a_statement_may_have(tmp_path: Path) -> None:
    with open_cache(tmp_path / "c.sqlite") as cache:
        cache.put({str(number): ANSWER for number in range(1201)})
        assert len(cache.get(map(str, range(2000)))) == 1201


def test_processes_write_at_once_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in ("x", "y", "z")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    with open_cache(path) as cache:
        wanted = [f"{name}-{number}" for name in ("x", "y", "z", "shared") for number in range(200)]
        assert set(cache.get(wanted)) == set(wanted)
