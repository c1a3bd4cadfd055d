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
        raise UserError(
            "--device cuda: this machine has no usable CUDA device. Use --device cpu or auto; `cnnvis doctor` says more."
        )
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA device(s), counted from 0.")
    if kind == "mps" and not mps:
        raise UserError("--device mps: this machine has no usable Apple GPU. Use --device cpu or auto.")
    return torch.device(name)
