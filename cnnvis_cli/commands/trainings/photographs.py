"""The pictures that a training learns from, and those it is judged by and never sees."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cnnvis_cli.config.train import TrainConfig
from cnnvis_cli.engine.learning.randomness import Shuffled, drawn
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.jobs.record import MOST_HASHES
from cnnvis_cli.pictures.corpus import Corpus, listed
from cnnvis_cli.pictures.read import PictureFile

VIEW = 144  # side of the pictures that it is judged by


@dataclass(frozen=True)
class Photographs:
    """`corpus` with its `order`; the `held` out with their middle squares `views` (B, 3, VIEW, VIEW) and `names`."""

    corpus: Corpus
    order: Shuffled
    held: Corpus
    views: Tensor
    names: list[str]

    def crops(self, config: TrainConfig, step: int, side: int) -> Tensor:
        """The random crops (batch, 3, side, side) of a step."""
        zoom = config.zoom[0], config.zoom[1]
        numbers = self.order.batch(step, config.batch)
        return self.corpus.crops(numbers, side, drawn(config.seed, step, "crops"), zoom=zoom)[0]

    @property
    def skipped(self) -> dict[str, str]:
        """What could not be read, and why."""
        return self.corpus.skipped | self.held.skipped


def noted(job: Job, sources: list[PictureFile]) -> list[PictureFile]:
    """The sources, with their hashes in the record: a result learned from other pictures is made anew. Not of so many that it
    would take longer than a look."""
    if len(job.inputs.digests) + len(sources) <= MOST_HASHES:
        for source in sources:
            job.inputs.note(source)
    return sources


def read_photographs(config: TrainConfig, job: Job, count: int) -> Photographs:
    """`count`: how many are held out at most; some of `images` where the config names none."""
    sources = noted(job, listed(config.images, config.leave_out))
    if config.held_out:
        found = noted(job, listed(config.held_out))
        held = [found[number] for number in Corpus(found).spread(count)]
    else:
        fewer = min(config.judged, max(1, len(sources) // 4))
        held = [sources[number] for number in Corpus(sources).spread(fewer)]
        names = {source.path for source in held}
        sources = [source for source in sources if source.path not in names] or sources
    judged = Corpus(held[:count], keep=2 * VIEW)
    views, whose = judged.squares(range(min(len(held), count)), VIEW)
    corpus = Corpus(sources, keep=2 * max(config.size))
    return Photographs(corpus, Shuffled(len(sources), config.seed), judged, views, [held[number].name for number in whose])
