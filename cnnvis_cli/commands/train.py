"""`cnnvis train`: networks that learn, and come out as a file of weights with its card."""

from __future__ import annotations

from cnnvis_cli.commands.trainings.decoder import train_decoder
from cnnvis_cli.commands.trainings.masker import train_masker
from cnnvis_cli.commands.trainings.network import Classifier
from cnnvis_cli.commands.trainings.painting import train_painting
from cnnvis_cli.config.train import TrainConfig
from cnnvis_cli.jobs.job import Job


def run(config: TrainConfig, job: Job) -> None:
    if config.kind in ("stylizer", "painter"):
        train_painting(config, job)
    elif config.kind == "decoder":
        train_decoder(config, job)
    elif config.kind == "masker":
        train_masker(config, job)
    else:
        Classifier(config, job).run()
