"""`train kind=network`: a classifier of labelled pictures, plain or robust, from scratch or from weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.commands.trainings import common as shared
from cnnvis_cli.commands.trainings.photographs import noted
from cnnvis_cli.config.train import TrainConfig, not_of
from cnnvis_cli.engine.learning.adversarial import adversarial, attacked
from cnnvis_cli.engine.learning.augment import jittered, mixed, turned
from cnnvis_cli.engine.learning.loop import Learned, Learning
from cnnvis_cli.engine.learning.randomness import Shuffled, drawn
from cnnvis_cli.engine.learning.verdict import Accuracy, clean_accuracy, robust_accuracy
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.networks.load import BUNDLED
from cnnvis_cli.networks.trained import Start, starting_point
from cnnvis_cli.pictures.corpus import Corpus, labelled, listed

# Budgets at which the result is judged, for pictures of 96 px; l2 grows with the side.
JUDGED = {"l2": (0.5, 1.0), "linf": (1 / 255, 2 / 255)}
_COLLAPSE = 0.2  # robust accuracy lost since the last probe: the attack was learned, not the pictures (Wong et al. 2020)


@dataclass(frozen=True)
class Labelled:
    """Pictures with the numbers of their classes (N,)."""

    corpus: Corpus
    labels: Tensor


class Classifier:
    """One training from its config to its file: what is read, what a step is, how it is judged."""

    def __init__(self, config: TrainConfig, job: Job) -> None:
        self.config, self.job = config, job
        sources = noted(job, listed(config.images, config.leave_out))
        if not any(source.label for source in sources):
            raise UserError("kind=network learns from folders of labelled pictures: images=FOLDER, a folder per class.")
        start = starting_point(config.start, config.architecture, job.inputs.offline)
        keep = round(1.5 * max(config.size))
        labels, classes = labelled(sources, config.names, start.classes if start else ())
        if len(classes) < 2:
            raise UserError(f"there is one class only ('{classes[0]}'): images=FOLDER wants a folder per class.")
        self.data, self.classes = Labelled(Corpus(sources, keep=keep), labels), classes
        self.tests = {name: self._labelled(what, keep) for name, what in test_names(config.test).items()}
        self.start = start or self._fresh()
        self.module = self.start.module.to(memory_format=torch.channels_last)
        self.preprocessing = self.start.preprocessing
        self.order = Shuffled(len(sources), config.seed)
        self.memory: dict[str, Any] = {"extra_steps": 0, "robust": []}

    def _labelled(self, what: str, keep: int) -> Labelled:
        sources = noted(self.job, listed([what], self.config.leave_out))
        labels, _ = labelled(sources, self.config.names, self.classes)
        return Labelled(Corpus(sources, keep=keep), labels)

    def _fresh(self) -> Start:
        """Random weights of an architecture, with the mean and deviation of the pictures."""
        from cnnvis_cli.networks.trained import fresh

        numbers = self.data.corpus.spread(500)
        pixels, _ = self.data.corpus.squares(numbers, max(self.config.size))
        mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
        return fresh(
            self.config.architecture, self.classes, mean.tolist(), std.tolist(), max(self.config.size), self.config.seed
        )

    # A step

    def model(self, module: nn.Module) -> Any:
        """From pictures (B, 3, H, W) in [0, 1] to logits, differentiable in the weights."""
        normalize = self.start.normalize

        def answer(pictures: Tensor) -> Tensor:
            return module(normalize(pictures).contiguous(memory_format=torch.channels_last))

        return answer

    def epsilon(self, size: int) -> float:
        """The bound at a size: an l2 change grows with the side of the picture."""
        scale = size / self.config.size[-1] if self.config.bound == "l2" else 1.0
        return self.config.epsilon * scale

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        config, stage = self.config, self.config.stage(progress)
        generator = drawn(config.seed, step, "crops")
        pictures, whose = self.data.corpus.crops(
            self.order.batch(step, config.batch), config.size[stage], generator, zoom=self._zoom, flip=config.flip
        )
        labels = self.data.labels[whose].to(self.job.inputs.device)
        pictures = pictures.to(self.job.inputs.device)
        if config.turn:
            pictures = turned(pictures, drawn(config.seed, step, "turn"), config.turn)
        if config.jitter:
            pictures = jittered(pictures, generator, config.jitter)
        if config.attack != "none":
            pictures = self._attacked(pictures, labels, stage, progress, drawn(config.seed, step, "attack"))
        targets = F.one_hot(labels, len(self.classes)).float()
        if stage < len(config.size) - 1 or len(config.size) == 1:
            pictures, targets = mixed(pictures, targets, config.mixup, drawn(config.seed, step, "mixup"))
        logits = self.model(self.module)(pictures).float()
        return {"cross_entropy": F.cross_entropy(logits, targets, label_smoothing=config.smoothing)}

    @property
    def _zoom(self) -> tuple[float, float]:
        return self.config.zoom[0], self.config.zoom[1]

    def _attacked(self, pictures: Tensor, labels: Tensor, stage: int, progress: float, generator: torch.Generator) -> Tensor:
        config = self.config
        rise = 0.3 + 0.7 * min(1.0, progress / config.ramp) if config.ramp else 1.0
        given = config.attack_steps or (2,)
        steps = 1 if config.attack == "fast" else given[stage if len(given) > 1 else 0]
        with attacked(self.module):
            return adversarial(
                self.model(self.module),
                pictures,
                labels,
                norm=config.bound,
                epsilon=rise * self.epsilon(config.size[stage]),
                steps=steps + self.memory["extra_steps"],
                generator=generator,
            )

    # How it is judged

    def network(self, module: nn.Module) -> Network:
        return Network.frozen(
            self.job.name, module, self.preprocessing, self.classes, device=self.job.inputs.device, channels_last=True
        )

    def probe(self, step: int, module: nn.Module) -> bool:
        """Robust accuracy on training pictures, by more steps than it learns from. Where it collapses the attack gets a step
        more, and the weights step back."""
        numbers = self.data.corpus.spread(self.config.probe)
        side = self.preprocessing.size
        squares, whose = self.data.corpus.squares(numbers, side, self.preprocessing.resize)
        epsilon = self.epsilon(side) / 2
        found = robust_accuracy(
            self.network(module), squares, self.data.labels[whose], norm=self.config.bound, epsilon=epsilon, steps=7
        )
        before = self.memory["robust"][-1][1] if self.memory["robust"] else 0.0
        self.job.say(
            f"step {step}: {found.share:.1%} of {found.count} training pictures right under {self.config.bound} {epsilon:g}"
        )
        if found.share < before - _COLLAPSE:
            self.memory["extra_steps"] += 1
            self.job.warn(
                f"step {step}: robust accuracy fell from {before:.0%} to {found.share:.0%} (catastrophic overfitting): "
                f"back to the last probe, and on with {self.memory['extra_steps']} more steps of attack."
            )
            return False
        self.memory["robust"].append([step, found.share])
        return True

    def scores(self, network: Network) -> dict[str, Any]:
        """Clean accuracy on all test pictures; robust accuracy on some of each set, as 8-bit pictures by PGD of 20 steps."""
        found: dict[str, Any] = {}
        size, resize = self.preprocessing.size, self.preprocessing.resize
        share = max(1, round(self.config.judged / max(1, len(self.tests))))
        for name, test in self.tests.items():
            clean = self._clean(network, test, name)
            found |= {f"{name}_clean": clean.share, f"{name}_clean_error": clean.error, f"{name}_pictures": clean.count}
            squares, whose = test.corpus.squares(test.corpus.spread(share), size, resize)
            for epsilon in JUDGED[self.config.bound]:
                scaled = epsilon * size / 96 if self.config.bound == "l2" else epsilon
                self.job.check_interrupt()
                robust = robust_accuracy(
                    network,
                    squares,
                    test.labels[whose],
                    norm=self.config.bound,
                    epsilon=scaled,
                    steps=20,
                    seed=self.config.seed,
                )
                key = f"{name}_{self.config.bound}_{scaled:.3g}"
                found |= {key: robust.share, f"{key}_error": robust.error}
        if self.tests:
            found["robust_pictures_each"] = share
        return found

    def _clean(self, network: Network, test: Labelled, name: str) -> Accuracy:
        right = []
        with self.job.track(f"test {name}", len(test.corpus)) as bar:
            for first in range(0, len(test.corpus), 100):
                self.job.check_interrupt()
                numbers = list(range(first, min(first + 100, len(test.corpus))))
                squares, whose = test.corpus.squares(numbers, self.preprocessing.size, self.preprocessing.resize)
                right.append(clean_accuracy(network, squares, test.labels[whose]))
                bar.advance(numbers[-1] + 1)
        return Accuracy(sum(one.right for one in right), sum(one.count for one in right))

    # From beginning to end

    def learning(self) -> Learning:
        config = self.config
        return Learning(
            self.module,
            self.losses,
            config.most_steps,
            optimizer="sgd",
            **shared.pace(config),
            judge=self.probe if config.attack != "none" and config.probe else None,
            judged=max(1, len(self.data.corpus) // config.batch),
            memory=self.memory,
            precision=torch.bfloat16 if config.precision == "bf16" else None,
            device=self.job.inputs.device,
        )

    def run(self) -> None:
        result = shared.learned(self.job, self.learning(), self.config.check)
        # Ours are without BatchNorm where they are read; an architecture of others keeps its own, as anybody's weights do.
        trained = self.network(result.module).module if self.start.architecture in BUNDLED else result.module
        trained = trained.to(memory_format=torch.contiguous_format)
        state = {
            key: value.half() if value.is_floating_point() and "running_" not in key else value
            for key, value in trained.state_dict().items()
        }
        shipped = copy.deepcopy(trained).float()
        shipped.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
        scores = self.scores(self.network(shipped)) if self.tests else {}
        shared.save_weights(self.job, state, self.card(result, scores))
        shared.save_curve(self.job, result)
        skipped = {**self.data.corpus.skipped}
        for test in self.tests.values():
            skipped |= test.corpus.skipped
        self.job.inputs.skipped.update(skipped)
        self.job.scores.update(scores | {"steps": result.steps, "stopped": result.stopped})
        self.job.record.note(probes=self.memory["robust"], back=result.back, losses=shared.brief(result.trace))

    def card(self, result: Learned, scores: dict[str, Any]) -> dict[str, Any]:
        """What the file says about itself."""
        how = self.preprocessing
        left_out = {*not_of("network"), "images", "test", "names", "name", "check"}
        return {
            **shared.common_card("network", self.config, left_out, len(self.data.corpus), result, scores),
            "architecture": self.start.architecture,
            "classes": list(self.classes),
            "mean": [round(value, 4) for value in how.mean],
            "std": [round(value, 4) for value in how.std],
            "size": str(how.size),
            "resize": str(how.resize),
            "probes": self.memory["robust"],
        }


def test_names(what: tuple[str, ...]) -> dict[str, str]:
    """A name for each set of test pictures: the folder that is not merely called test or val."""
    found: dict[str, str] = {}
    for one in what:
        parts = [part for part in Path(one).with_suffix("").parts if part.lower() not in ("test", "val", "validation")]
        name = parts[-1] if parts else "test"
        found[name if name not in found else f"{name}-{len(found) + 1}"] = one
    return found
