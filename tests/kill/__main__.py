"""`make kill`: commands killed at random moments, run again to their end, and compared with what was never interrupted.

python -m tests.kill [KILLS] [SEED]
"""

from __future__ import annotations

import sys

from tests.kill.kills import CASES, campaign

if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    kills, seed = [*given, *(200, 0)[len(given) :]]
    tallies = campaign(CASES, kills, seed, say=lambda line: print(line, flush=True))
    sys.exit(any(tally.failed for tally in tallies))
