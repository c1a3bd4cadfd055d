"""Networks that `train` begins with: random weights of an architecture, or a network that there is already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnvis_cli.engine.network.network import Preprocessing
from cnnvis_cli.engine.pixels import LUMA, luma
from cnnvis_cli.errors import UserError, did_you_mean
from cnnvis_cli.networks.checkpoints import fit_weights, read_weights
from cnnvis_cli.networks.libraries import AS_PRETRAINED
from cnnvis_cli.networks.load import BUNDLED, NetworkSpec, load_module, model_names
from cnnvis_cli.networks.spec import described


@dataclass(frozen=True)
class Start:
    """A module whose weights may learn, and what it takes and says."""

    architecture: str
    module: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]

    def normalize(self, pictures: Tensor) -> Tensor:
        """What the module gets for pictures (B, 3, H, W), sRGB in [0, 1]."""

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=pictures.device).view(1, -1, 1, 1)

        if self.preprocessing.grayscale:
            pictures = luma(pictures)
        return (pictures - column(self.preprocessing.mean)) / column(self.preprocessing.std)


def starting_point(start: str, architecture: str, offline: bool) -> Start | None:
    """The network that training goes on from; None where `start` is empty. Raises UserError that names what there is."""
    if not start:
        if not architecture:
            raise UserError(
                f"name what shall learn: start=minivgg goes on from weights, architecture={'|'.join(BUNDLED)} begins anew."
            )
        return None
    if start.endswith(".safetensors"):
        return from_file(Path(start).expanduser())
    if start not in model_names():
        raise UserError(f"no network '{start}' to start from.{did_you_mean(start, model_names())}")
    if architecture and architecture != start:
        raise UserError(f"start={start} has its own architecture; architecture={architecture} is for weights from nothing.")
    module, preprocessing, classes = load_module(NetworkSpec(start, offline=offline))
    return Start(architecture_of(start), module.requires_grad_(True), preprocessing, classes)


def architecture_of(name: str) -> str:
    """The architecture that a bundled network's weights are of; a torchvision name is one itself."""
    return name.removesuffix("_robust")


def from_file(path: Path) -> Start:
    """A network that `train` has written. (Also what `assets/minivgg.safetensors` is.)"""
    said = described(path)
    if said is None:
        raise UserError(f"{path} has no card of a classifier: `cnnvis train kind=network` writes such files.")
    module = builder(said.architecture)(len(said.classes), False)
    fit_weights(module, read_weights(path), f"the weights {path}", said.architecture)
    return Start(said.architecture, module, said.preprocessing, said.classes)


def builder(architecture: str) -> Callable[[int, bool], nn.Module]:
    """From a number of classes, and whether BatchNorm is in it (ours only), to a module."""
    if architecture in BUNDLED:
        return lambda classes, batchnorm: BUNDLED[architecture](classes, batchnorm=batchnorm)
    from torchvision import models

    if architecture not in models.list_models(module=models):
        raise UserError(f"no architecture '{architecture}'.{did_you_mean(architecture, model_names())}")
    extra = AS_PRETRAINED.get(architecture, {})
    return lambda classes, batchnorm: models.get_model(architecture, weights=None, num_classes=classes, **extra)


def fresh(
    architecture: str, classes: Sequence[str], mean: Sequence[float], std: Sequence[float], size: int, seed: int
) -> Start:
    """Random weights that follow from the seed alone, with BatchNorm where the architecture has it in training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = builder(architecture)(len(classes), True)
        for child in module.modules():
            if isinstance(child, nn.Conv2d):
                nn.init.kaiming_normal_(child.weight, nonlinearity="relu")
    if architecture == "lenet":
        gray = [sum(value * share for value, share in zip(mean, LUMA, strict=True))]
        mean, std = gray, [sum(std) / 3]
    resize = round(size * 256 / 224) if size >= 64 else size
    return Start(architecture, module, Preprocessing(tuple(mean), tuple(std), size, resize), tuple(classes))
