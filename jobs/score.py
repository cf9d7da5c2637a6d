"""Run the step score: the champion's predictions.

    spark-submit jobs/score.py --spec conf/flight_delays/pipeline.yml

It takes the options of ``tidemill run``; ``--run-id`` makes steps in separate processes one run.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from tidemill.cli.jobs import main

if __name__ == "__main__":
    sys.exit(main("score"))
