"""One job from its config to its files."""
