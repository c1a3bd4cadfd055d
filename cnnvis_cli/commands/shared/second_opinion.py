"""What networks say of a class picture; also one that it was not made to please."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import score
from cnnvis_cli.engine.optim.objectives import CLASS_KINDS, Objective
from cnnvis_cli.errors import UserError
from cnnvis_cli.files.bundled import assets_folder
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.networks.load import TWINS, bundled_classes
from cnnvis_cli.pictures.read import read, resize, to_square
from cnnvis_cli.pictures.samples import SAMPLES, labelled_samples, sample

ROBUST = "minivgg_robust"


def single_class(objective: Objective) -> int | None:
    """The class that an objective asks for, if that is all it asks for."""
    terms = objective.terms
    alone = len(terms) == 1 and terms[0].kind in CLASS_KINDS and terms[0].weight > 0
    return terms[0].index if alone else None


def second_network(config: NetworkConfig, seen_by: str, job: Job, names: Sequence[str]) -> Network | None:
    """The network whose opinion of classes is asked. `auto` is the bundled network's twin; for others the robust one, where it
    knows a class of one of these names."""
    if seen_by in ("none", ""):
        return None
    if seen_by != "auto":
        return job.inputs.network(NetworkConfig.of(seen_by))
    twin = TWINS.get(config.model) if not config.weights else None
    chosen = twin or ROBUST
    if not (assets_folder() / f"{chosen}.safetensors").is_file():
        return None
    shared = twin or set(map(str.lower, names)) & set(map(str.lower, bundled_classes(chosen)))
    return job.inputs.network(NetworkConfig.of(chosen)) if shared else None


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


@torch.no_grad()
def class_score(network: Network, objective: Objective, views: Tensor) -> dict[str, float]:
    """Mean probability over the views and its rank (1: the most likely) where the objective is a single class."""
    if (index := single_class(objective)) is None:
        return {}
    probabilities = network(views).softmax(1).mean(0)
    return {
        "probability": probabilities[index].item(),
        "rank": int((probabilities > probabilities[index]).sum()) + 1,
    }


def best_sample(network: Network, objective: Objective) -> dict[str, Any] | None:
    """The sample picture that the objective likes best: what a natural picture reaches. For a class among pictures of it; None
    where there are none."""
    sources = [sample(name) for name in SAMPLES]
    if any(term.kind in CLASS_KINDS for term in objective.terms):
        names = {part.strip().lower() for term in objective.terms for part in term.name.split(",")}
        sources = [source for source in labelled_samples() if source.label.replace("_", " ").lower() in names]
    if not sources:
        return None
    examples = torch.cat([to_square(read(source), network.size) for source in sources]).to(network.device)
    values = score(network, objective, examples)
    best = int(values.argmax())
    return {"name": sources[best].address, "value": values[best].item()}
