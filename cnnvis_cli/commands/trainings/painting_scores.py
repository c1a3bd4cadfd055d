"""How good a stylizer is: against the optimizer with the same loss, by a judge of styles, and for lattices, frames and blobs.

All on held-out pictures, as 8-bit files would hold the results.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.commands.trainings.photographs import VIEW
from cnnvis_cli.commands.trainings.stylizer import StylizerTraining
from cnnvis_cli.engine.generators.stylizer import Stylizer
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.loop import Loop, synthesize
from cnnvis_cli.engine.optim.objectives import total_variation
from cnnvis_cli.engine.optim.parameterizations import Pixels
from cnnvis_cli.engine.pixels import eight_bit
from cnnvis_cli.engine.statistics import Wasserstein
from cnnvis_cli.engine.synthesis import pass_scores
from cnnvis_cli.engine.synthesis.style import other_layers, summarize
from cnnvis_cli.pictures.read import SAMPLES, find_pictures, read, resize, sample, to_square

# Other styles than the file's own, for the judge to be mistaken with.
_OTHERS = ("brick", "china", "coffee", "flower", "grass", "gravel", "hubble", "ihc", "motorcycle", "retina")
assert set(_OTHERS) <= set(SAMPLES)
_PHOTOGRAPHS, _EVERY = "sample:caltech", 4  # that a painted picture could be mistaken for


def as_stored(stylizer: Stylizer, picture: Tensor) -> dict[str, Tensor]:
    """The weights in half precision, where that changes no value of a pass by a level of 8 bits; else as they are."""
    state = {key: value.detach().clone() for key, value in stylizer.state_dict().items()}
    halves = {key: value.half() for key, value in state.items()}
    share = stylizer.mixed(torch.zeros(1, dtype=torch.long, device=picture.device))
    with torch.no_grad():
        exact = stylizer(picture, share)
        stylizer.load_state_dict({key: value.float() for key, value in halves.items()})
        rough = stylizer(picture, share)
    stylizer.load_state_dict(state)
    return halves if (rough - exact).abs().max() < 1 / 255 else state


class Judge:
    """Scores of the stylizer of a training, when it has ended."""

    def __init__(self, training: StylizerTraining, stylizer: Stylizer) -> None:
        self.training, self.stylizer, self.config = training, stylizer, training.config
        self.loss = training.loss
        self.floors: dict[str, float] = {}

    def scores(self) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
        """Scores that follow from the weights, the last columns of the sheet, and what depends on the machine (seconds)."""
        training = self.training
        chosen, styles = [row for row, _ in training.rows], [style for _, style in training.rows]
        views = training.views[chosen]
        began = time.perf_counter()
        made = training.painted(self.stylizer, views, styles)
        pass_seconds = (time.perf_counter() - began) / len(views)
        loss = self.loss.value(made, views, styles)
        found: dict[str, Any] = {"loss": loss.mean().item()}
        self.floors["copy"] = found["loss_of_copy"] = self.loss.value(views, views, styles).mean().item()
        self.floors["grey"] = found["loss_of_grey"] = self.loss.value(torch.full_like(views, 0.5), views, styles).mean().item()
        found |= self._looks(made, views) | self._distances(training.encoder, made, views, styles) | self._recognised()
        last, seconds = {"now": made}, {"pass_seconds": pass_seconds}
        if self.config.compare:
            optimized, worth, step_seconds = self._optimized(views, styles, loss)
            last[f"optimizer, {self.config.compare} steps"] = optimized
            found |= worth
            seconds |= {"optimizer_step_seconds": step_seconds, "worth_seconds": found["worth"] * step_seconds}
        return found, last, seconds

    def _looks(self, made: Tensor, views: Tensor) -> dict[str, float]:
        """Lattice, frame and blobs, each with the content's own, means over the rows."""

        def mean(values: list[float]) -> float:
            return sum(values) / len(values)

        shallow = self.training.layers[:2]
        encoder = self.training.encoder
        flat = torch.full_like(views[:1], 0.8)
        painted = self.training.painted(self.stylizer, flat, [self.training.rows[0][1]])
        return {
            "checkerboard": mean([pass_scores.checkerboard(one[None]) for one in made]),
            "checkerboard_of_content": mean([pass_scores.checkerboard(one[None]) for one in views]),
            "border": mean([pass_scores.border(encoder, one[None], shallow) for one in made]),
            "border_of_content": mean([pass_scores.border(encoder, one[None], shallow) for one in views]),
            "blob": mean([pass_scores.blob(one[None]) for one in made]),
            "blob_of_content": mean([pass_scores.blob(one[None]) for one in views]),
            "blob_of_flat": pass_scores.blob(painted),
        }

    def _styles(self) -> list[Tensor]:
        """The file's styles at the size they are painted in."""
        device = self.training.job.inputs.device
        return [self.training.styled(style.picture().to(device)) for style in self.training.styles]

    def _distances(self, network: Network, made: Tensor, views: Tensor, styles: list[int]) -> dict[str, float]:
        """Style and content distances at layers that were not learned from."""
        statistic, others = Wasserstein(), other_layers(network, self.training.layers)
        pictures = self._styles()
        targets = [summarize(network, one, statistic, others) for one in pictures]
        own, plain = summarize(network, made, statistic, others), summarize(network, views, statistic, others)
        totals = {"style_distance": 0.0, "style_distance_of_content": 0.0}
        for layer in others:
            for row, style in enumerate(styles):
                target = statistic.target([targets[style][layer]], [1.0])
                for name, found in (("style_distance", own), ("style_distance_of_content", plain)):
                    one = {key: value[row : row + 1] for key, value in found[layer].items()}
                    totals[name] += statistic.distance(one, target).item() / (len(others) * len(styles))
        terms = self.loss.terms(made, views, styles)
        content = terms["content"].mean().item() / max(1e-9, 1 - self.loss.strength)
        return totals | {
            "style_ratio": totals["style_distance"] / max(1e-9, totals["style_distance_of_content"]),
            "content_distance": content,
        }

    def _recognised(self) -> dict[str, float]:
        """Share of painted pictures whose nearest style, among the file's and ten samples, is the right one; `before`: of the
        photographs as they are."""
        training, statistic = self.training, Wasserstein()
        network = training.judge_network()
        layers = other_layers(
            network, [name for name in training.layers if name in network.layers] or [list(network.layers)[-3]]
        )
        side = self.config.style_scale * max(self.config.size)
        own = {style.sha256 for style in self.training.styles}
        sources = [source for source in map(sample, _OTHERS) if source.digest() not in own]
        others = [read(source).to(network.device) for source in sources]
        others = [resize(one, *(max(32, round(n * side / max(one.shape[-2:]))) for n in one.shape[-2:])) for one in others]
        pictures = [*self._styles(), *others]
        targets = []
        for picture in pictures:
            found = summarize(network, picture, statistic, layers)
            targets.append({layer: statistic.target([found[layer]], [1.0]) for layer in layers})

        def nearest(shown: Tensor) -> int:
            own = summarize(network, shown, statistic, layers)
            totals = [sum(statistic.distance(own[layer], target[layer]).item() for layer in layers) for target in targets]
            return totals.index(min(totals))

        views = training.views.split(1)
        before = [nearest(view) for view in views]
        shares = {}
        for style in training.learning_styles:
            name = training.styles[style].name
            hits = [nearest(training.painted(self.stylizer, view, [style])) == style for view in views]
            shares[f"recognised_{name}"] = sum(hits) / len(views)
            shares[f"recognised_{name}_before"] = before.count(style) / len(views)
        return shares | self._found_again(network, layers[-1]) | {"recognised_pictures": len(views)}

    def _found_again(self, network: Network, layer: str) -> dict[str, float]:
        """Share of painted pictures whose nearest photograph, among those held out and others, is their own: what is asked
        beside the style, as a texture all over would be recognised too. `likeness`: cosine of their outlines."""
        training = self.training
        held = {source.digest() for source in training.photographs.held.sources}
        sources = [source for source in find_pictures(_PHOTOGRAPHS)[::_EVERY] if source.digest() not in held]
        others = [to_square(read(source), VIEW).to(network.device) for source in sources]
        codes = torch.cat([pass_scores.outline(network, one, layer) for one in [*training.views.split(1), *others]])
        own, other = [], []
        for style in training.learning_styles:
            for number, view in enumerate(training.views.split(1)):
                made = pass_scores.outline(network, training.painted(self.stylizer, view, [style]), layer)
                likeness = (codes @ made[0]).tolist()
                own.append(likeness.pop(number))
                other.append(max(likeness))
        return {
            "photograph_recognised": sum(one > best for one, best in zip(own, other, strict=True)) / len(own),
            "photograph_recognised_by_chance": 1 / len(codes),
            "likeness": sum(own) / len(own),
            "likeness_of_the_nearest_other": sum(other) / len(other),
        }

    def _optimized(self, views: Tensor, styles: list[int], reached: Tensor) -> tuple[Tensor, dict[str, float], float]:
        """What the optimizer makes of the same pictures with the same loss, how many of its steps a pass is worth (at least,
        where it did not get there), and the seconds of a step."""
        results, worth, seconds = [], [], 0.0
        for row, style in enumerate(styles):
            objective = self.loss.at(views[row : row + 1], style).objective()
            if self.loss.tv:
                objective = objective - self.loss.tv * total_variation()
            loop = Loop(
                image=Pixels(views[row : row + 1]),
                evaluate=value_gradient(self.training.encoder, objective),
                steps=self.config.compare,
                update="lbfgs",
                rate=1.0,
            )
            began = time.perf_counter()
            outcome = synthesize(loop)
            seconds += time.perf_counter() - began
            results.append(eight_bit(outcome.pictures[0]))
            passed = [step for step, value in enumerate(outcome.means) if -value <= reached[row].item()]
            worth.append(float(passed[0] if passed else self.config.compare))
        steps = self.config.compare * len(styles)
        found = {"worth": sum(worth) / len(worth), "worth_least": min(worth), "worth_most_asked": float(self.config.compare)}
        return torch.stack(results), found, seconds / steps
