"""Choosing a device, with a clear error where it is absent."""

from __future__ import annotations

import torch

from cnnvis_cli.engine.errors import UserError


def select_device(name: str = "auto") -> torch.device:
    """`auto` (CUDA, then MPS, then CPU), `cpu`, `cuda`, `cuda:1` or `mps`. Raises UserError where it is not there."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise UserError(f"no device '{name}'. Devices: auto, cpu, cuda, cuda:1, mps.")
    if kind == "cuda" and not cuda:
        raise UserError("this machine has no usable CUDA device.")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise UserError(f"this machine has {torch.cuda.device_count()} CUDA device(s), counted from 0.")
    if kind == "mps" and not mps:
        raise UserError("this machine has no usable Apple GPU.")
    return torch.device(name)
