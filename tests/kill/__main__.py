"""`make kill`: commands killed at random moments, run again to their end, and compared with what was never interrupted.

    python -m tests.kill [KILLS] [SEED]
"""

from __future__ import annotations

import sys

from tests.kill.kills import CASES, campaign

if __name__ == "__main__":
    kills, seed = (int(word) for word in [*sys.argv[1:], "200", "0"][:2]) if len(sys.argv) < 3 else map(int, sys.argv[1:3])
    tallies = campaign(CASES, kills, seed, say=lambda line: print(line, flush=True))
    sys.exit(any(tally.failed for tally in tallies))
