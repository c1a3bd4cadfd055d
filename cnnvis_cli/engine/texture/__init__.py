"""Textures without a network, and scores of textures."""
