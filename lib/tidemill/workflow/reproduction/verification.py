"""Predictions for the stored samples of model versions, computed in a new process, which has no caches and no session of this one.

``python -m tidemill.workflow.reproduction.verification LAKE PIPELINE VERSION …`` prints a JSON array: rows and difference of each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tidemill.errors import StepError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Sample = tuple[str, str, int]
"""The lake, the pipeline and the version."""


@dataclass(frozen=True)
class SampleScores:
    """How many rows of a sample were scored, and the first prediction that is not the stored one, None where all are."""

    rows: int
    difference: str | None


def score_samples_in_new_process(samples: Sequence[Sample]) -> list[SampleScores]:
    """Return for each version whether its predictions for its stored sample are those of training time.

    Raises:
        StepError: the process failed, or a version does not load.
    """
    words = [str(word) for sample in samples for word in sample]
    command = [sys.executable, "-m", "tidemill.workflow.reproduction.verification", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        errors = done.stderr.strip().splitlines()
        raise StepError(
            f"the stored samples could not be scored in a new process: {errors[-1] if errors else f'it ended with {done.returncode}'}"
        )
    return [SampleScores(**scores) for scores in json.loads(lines[-1])]


def score_samples(spark: SparkSession, samples: Sequence[Sample]) -> list[SampleScores]:
    """Return for each version whether its predictions for its stored sample are those of training time, in this process.

    Raises:
        StepError: a version does not load, or has no sample.
    """
    from tidemill.lake import Lake
    from tidemill.model_registry.sample import check_sample

    checks = [check_sample(spark, Lake(root), pipeline, version) for root, pipeline, version in samples]
    return [SampleScores(check.rows, None if check.difference is None else str(check.difference)) for check in checks]


def main(words: Sequence[str]) -> int:
    """Score the samples that the words name, and print the results; errors end the process with 1 and their message as the last line."""
    from tidemill.errors import TidemillError
    from tidemill.runtime.session import get_spark

    samples = [(words[place], words[place + 1], int(words[place + 2])) for place in range(0, len(words), 3)]
    try:
        scores = score_samples(get_spark(), samples)
    except TidemillError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps([asdict(each) for each in scores]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
