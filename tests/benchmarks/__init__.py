"""Speed, against the peers. Never timed in the suite; run by `make bench`."""
