"""The objectives that `maximize` is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnvis_cli.commands.units.page import both_ways
from cnnvis_cli.config.maximize import MaximizeConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objective_syntax import parse_objectives
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.errors import UserError


def objectives_of(config: MaximizeConfig, network: Network) -> list[Objective]:
    """What is to be raised, a picture each: what `objective` names, as `against`, `interpolate`, `show` and `maximize` say."""
    found = parse_objectives(config.objective, network, _read_vector, against_others=config.against_others)
    if config.interpolate:
        if len(found) != 2:
            raise UserError(f"interpolate takes two objectives ('A; B'), not {len(found)}.")
        shares = np.linspace(0, 1, config.interpolate + 2).tolist()
        found = [found[0] * (1 - share) + found[1] * share for share in shares]
    if config.show == "unit":
        return both_ways(found, network)
    return found if config.maximize else [-objective for objective in found]


def _read_vector(text: str) -> Tensor:
    try:
        return torch.from_numpy(np.load(Path(text), allow_pickle=False)).float()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the direction '{text}': {error}. Give a .npy file, or numbers with commas.") from None
