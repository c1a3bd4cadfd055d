"""Where networks come from: bundled, torchvision, a file of weights, the user's module:factory."""
