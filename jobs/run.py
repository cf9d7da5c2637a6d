"""Run every step that has something to do, in order, in one Spark application.

    spark-submit jobs/run.py --spec conf/flight_delays/pipeline.yml

It takes the options of ``tidemill run``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from tidemill.cli.jobs import main

if __name__ == "__main__":
    sys.exit(main())
