"""A stylizer from its config to its file: trained, judged, saved with what it is worth."""

from __future__ import annotations

from cnnvis_cli.commands.trainings import common as shared
from cnnvis_cli.commands.trainings import painting_scores
from cnnvis_cli.commands.trainings.painter import PainterTraining
from cnnvis_cli.commands.trainings.stylizer import StylizerTraining
from cnnvis_cli.config.train import TrainConfig
from cnnvis_cli.jobs.job import Job


def train_painting(config: TrainConfig, job: Job) -> None:
    training = PainterTraining(config, job) if config.kind == "painter" else StylizerTraining(config, job)
    if config.precision == "bf16":
        job.warn("bf16 is not used for stylizers: their statistics need float32.")
    with training.variant():
        result = shared.learned(job, training.learning(), training.config.check, training.look)
        stylizer = training.stylizer_of(result.module)
        state = painting_scores.as_stored(stylizer, training.views[:1])
        stylizer.load_state_dict({key: value.float() for key, value in state.items()})
        judge = painting_scores.Judge(training, stylizer)
        scores, last, seconds = judge.scores()
        scores |= shared.save_ripple(job, stylizer, config.upsample)
        training.save_sheet(last)
    shared.save_weights(job, state, training.card(result, scores))
    shared.save_curve(job, result, {} if config.kind == "painter" else judge.floors)
    job.inputs.skipped.update(training.photographs.skipped)
    job.scores.update(scores | seconds | {"steps": result.steps, "stopped": result.stopped})
    job.record.note(losses=shared.brief(result.trace), back=result.back, held_out=training.photographs.names)
