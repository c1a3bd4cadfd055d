"""What a picture is asked about: the class the network predicts, a named one, or any objective."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objective_syntax import parse_objectives
from cnnvis_cli.engine.optim.objectives import Objective, class_logit, class_share


@dataclass(frozen=True)
class Target:
    """`logit`: what gradients are taken of. `judged`: what is read off when the picture is changed, a probability for a
    class, else the same. `label`: for captions. `index`: of the class, if it is one.
    """

    logit: Objective
    judged: Objective
    label: str
    index: int | None = None


def resolve_target(text: str, network: Network, image: Tensor) -> Target:
    """`predicted` (for this image (1, 3, H, W)), a class's name or index, or an objective such as `channel:conv4_1:7`."""
    if ":" in text:
        found = parse_objectives(text, network)
        if len(found) != 1:
            raise UserError(f"target={text} names {len(found)} objectives; one is wanted here.")
        return Target(found[0], found[0], found[0].label)
    if text == "predicted":
        with torch.no_grad():
            index = int(network(image).argmax())
    else:
        index = network.class_index(text)
    return Target(class_logit(network, index), class_share(network, index), network.class_name(index), index)
