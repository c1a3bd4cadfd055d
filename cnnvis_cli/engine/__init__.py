"""The engine: plain PyTorch. Knows nothing of command lines, YAML or disks."""
