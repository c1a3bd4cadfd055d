"""What another network says of a class picture: any picture can be made to please the network that it was made with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.errors import UserError
from cnnvis_cli.files.bundled import assets_folder
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.networks.load import TWINS
from cnnvis_cli.pictures.read import resize


def single_class(objective: Objective) -> int | None:
    """The class that an objective asks for, if that is all it asks for."""
    terms = objective.terms
    alone = len(terms) == 1 and terms[0].kind in ("class", "prob") and terms[0].weight > 0
    return terms[0].index if alone else None


def second_network(config: NetworkConfig, seen_by: str, job: Job) -> Network | None:
    """The network whose opinion is asked: `auto` is the bundled one that shares the classes, if there is one."""
    chosen = TWINS.get(config.model, "none") if seen_by == "auto" and not config.weights else seen_by
    bundled = (assets_folder() / f"{chosen}.safetensors").is_file()
    if chosen in ("none", "auto", "") or (seen_by == "auto" and not bundled):
        return None
    model, _, weights = chosen.partition("@")
    return job.inputs.network(NetworkConfig.model_validate({"model": model, "weights": weights}))


@torch.no_grad()
def opinion(network: Network, views: Tensor, name: str) -> dict[str, Any]:
    """`seen_by`, the probability and rank (1: its first answer) it gives the class of that name, and its first answer. Of a
    network that knows no such class only who it is.

    `views` (N, 3, H, W) of one picture: the mean probability over them counts. A single one is shown at the network's own size.
    """
    try:
        index = network.class_index(name)
    except UserError:
        return {"seen_by": network.name, "seen_probability": None}
    probabilities = network(resize(views, network.size, network.size)).softmax(1).mean(0)
    best = int(probabilities.argmax())
    return {
        "seen_by": network.name,
        "seen_probability": probabilities[index].item(),
        "seen_rank": int((probabilities > probabilities[index]).sum()) + 1,
        "seen_as": network.class_name(best),
    }
