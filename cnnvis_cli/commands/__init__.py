"""One page per technique: from its config to objective, image and loop, and to named files. No autograd here."""
