"""Networks that learn: the one loop over weights, its randomness, and what it is fed with."""
