"""What `fool` attacks, and what is wanted of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.config.fool import FoolConfig
from cnnvis_cli.engine.attacks.problem import Goal
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.parameterizations import noise
from cnnvis_cli.engine.pixels import eight_bit
from cnnvis_cli.errors import SizeError, UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.find import find_pictures
from cnnvis_cli.pictures.read import to_square
from cnnvis_cli.pictures.samples import PictureFile


@dataclass(frozen=True)
class Case:
    """One picture that is attacked, (1, 3, H, W), 8-bit, and what it is called in file names and tables."""

    name: str
    picture: Tensor
    folder: str = ""


def cases_of(config: FoolConfig, job: Job, network: Network) -> list[Case]:
    cases: list[Case] = []
    unread: list[PictureFile] = []
    size = config.size or network.size
    for what in config.image:
        if what == "noise":
            picture = (0.5 + 0.2 * noise([config.seed], 3, size, size)).clamp(0, 1).to(job.inputs.device)
            cases.append(Case("noise", eight_bit(picture)))
            continue
        for source in find_pictures(what):
            if (shown := job.inputs.read_or_skip(source)) is None:
                unread.append(source)
                continue
            cases.append(Case(_unique(source, cases), _prepared(shown, network, size), source.label))
    if not cases:
        raise job.inputs.unreadable(unread)
    return cases


def _prepared(picture: Tensor, network: Network, size: int) -> Tensor:
    """The picture as the network is tested: resized, the centre square, 8-bit. One of the right size is taken as it is, so
    that what `fool` saved can be given to it again."""
    if not network.sizes.takes(size, size):
        raise SizeError(f"{network.name} takes {network.sizes.describe()}, not size={size}.")
    if picture.shape[-2:] != (size, size):
        picture = to_square(picture, size, round(size * network.preprocessing.resize / network.size))
    return eight_bit(picture)


def _unique(source: PictureFile, cases: list[Case]) -> str:
    taken = {case.name for case in cases}
    name, number = source.name, 2
    while name in taken:
        name, number = f"{source.name}-{number}", number + 1
    return name


@torch.no_grad()
def goal_of(config: FoolConfig, network: Network, cases: list[Case], pictures: Tensor) -> Goal:
    logits = torch.cat([network(part) for part in pictures.split(config.batch)])
    labels = logits.argmax(1)
    if config.label:
        named = {"folder": lambda case: case.folder, "file": lambda case: re.sub(r"^n\d{8}_|-\d+$", "", case.name)}
        wanted = [named.get(config.label, lambda case: config.label)(case) for case in cases]
        labels = torch.tensor([network.class_index(name) for name in wanted], device=logits.device)
    return Goal(labels, _targets(config, network, logits, labels, cases))


def _targets(config: FoolConfig, network: Network, logits: Tensor, labels: Tensor, cases: list[Case]) -> Tensor | None:
    if not config.target:
        return None
    if config.target == "least-likely":
        return logits.scatter(1, labels[:, None], math.inf).argmin(1)
    if config.target == "random":
        generator = torch.Generator().manual_seed(config.seed)
        shift = torch.randint(1, logits.shape[1], labels.shape, generator=generator).to(labels)
        return (labels + shift) % logits.shape[1]
    target = network.class_index(config.target)
    same = [case.name for case, label in zip(cases, labels.tolist(), strict=True) if label == target]
    if same:
        raise UserError(f"target={config.target} is the class of {', '.join(same[:5])} already. Choose another target.")
    return torch.full_like(labels, target)
