"""A user's own network: `package.module:factory`, and what it says about itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cnnvis_cli.errors import UserError
from cnnvis_cli.networks.checkpoints import digest_of, fit_weights, read_weights
from cnnvis_cli.networks.self_description import names_of, preprocessing_of
from cnnvis_cli.networks.spec import NetworkSpec, Parts
from cnnvis_cli.networks.user_code import call, load_object


def from_factory(spec: NetworkSpec) -> Parts:
    """What `package.module:name` gives: a function without arguments that returns an nn.Module, or such a module itself.

    What the module says about itself is used where it is there: `module.preprocessing` (mean, std, size, as torchvision or
    timm write them; also timm's `pretrained_cfg`), `module.classes` (names).
    """
    what = f"model={spec.model}"
    module: Any = load_object(spec.model, "model", trust_code=spec.trust_code)
    if not isinstance(module, nn.Module):
        if not callable(module):
            raise UserError(f"{what} is a {type(module).__name__}: neither a function that makes a network nor a network.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            module = call(module, what)
    if isinstance(module, tuple | list) and module and isinstance(module[0], nn.Module):
        module = module[0]
    if not isinstance(module, nn.Module):
        raise UserError(f"{what} gave a {type(module).__name__}, not a torch.nn.Module.")
    notes: list[str] = []
    if spec.weights and spec.weights != "random":
        path = spec.weights_path
        fit_weights(module, read_weights(path, module), f"the weights {path}", spec.model)
    said = next((getattr(module, key) for key in ("preprocessing", "pretrained_cfg", "default_cfg") if _has(module, key)), None)
    preprocessing, more = preprocessing_of(said, f"{what}: preprocessing", _channels(module))
    notes += more
    classes, more = names_of(getattr(module, "classes", None), f"{what}: classes")
    assumed = "" if said is not None else "it says nothing of its pictures: ImageNet's mean and std and 224 px are assumed"
    try:
        digest = digest_of(module.state_dict())
    except (RuntimeError, ValueError, TypeError):  # lazy or exotic weights: what is wrong with them is told by the trial run
        digest = ""
    return Parts(module, preprocessing, classes, digest, (*notes, *more), assumed=assumed)


def _channels(module: nn.Module) -> int:
    """What a mean of one number is of: as many channels as the first convolution takes, if these are 1, else 3."""
    first = next((child for child in module.modules() if isinstance(child, nn.Conv2d)), None)
    return 1 if first is not None and first.in_channels == 1 else 3


def _has(module: nn.Module, key: str) -> bool:
    return getattr(module, key, None) is not None
