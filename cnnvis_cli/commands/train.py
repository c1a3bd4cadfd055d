"""`cnnvis train`: networks that learn, and come out as a file of weights with its card."""

from __future__ import annotations

from cnnvis_cli.commands.shared.train_network import Classifier
from cnnvis_cli.commands.shared.train_stylizer import StylizerTraining
from cnnvis_cli.config.train import TrainConfig
from cnnvis_cli.jobs.job import Job

_KINDS: dict[str, type[Classifier] | type[StylizerTraining]] = {"network": Classifier, "stylizer": StylizerTraining}


def run(config: TrainConfig, job: Job) -> None:
    _KINDS[config.kind](config, job).run()
