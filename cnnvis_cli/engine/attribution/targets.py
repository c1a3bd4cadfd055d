"""What a picture is asked about: the class the network predicts, a named one, or any objective."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objective_syntax import KINDS, parse_objectives
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
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    named = text in network.classes or quoted
    if not named and text.partition(":")[0].split("*")[-1].strip() in KINDS and ":" in text:
        found = parse_objectives(text, network)
        if len(found) != 1:
            raise UserError(f"target={text} names {len(found)} objectives; one is wanted here.")
        return Target(found[0], found[0], found[0].label)
    if text == "predicted" and not named:
        with torch.no_grad():
            index = int(network(image).argmax())
    else:
        index = network.class_index(text[1:-1] if quoted else text)
    return Target(class_logit(network, index), class_share(network, index), network.class_name(index), index)
