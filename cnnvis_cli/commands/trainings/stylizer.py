"""`train kind=stylizer`: a network that paints any photograph in the style of one or several pictures, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cnnvis_cli.commands.shared import multiscale
from cnnvis_cli.commands.trainings import common as shared
from cnnvis_cli.commands.trainings.photographs import read_photographs
from cnnvis_cli.config.base import NetworkConfig, stem
from cnnvis_cli.config.train import TrainConfig, not_of
from cnnvis_cli.engine.generators.stylizer import Stylizer, StylizerShape, only_styles, with_more_styles
from cnnvis_cli.engine.learning.loop import Learned, Learner, Learning
from cnnvis_cli.engine.learning.painting import OFFSETS, PaintingLoss, cut
from cnnvis_cli.engine.learning.randomness import drawn
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.modifications import padded, pooled
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import eight_bit
from cnnvis_cli.engine.statistics import STATISTICS, Summary
from cnnvis_cli.engine.synthesis.style import balance, stride, style_layers, summarize
from cnnvis_cli.errors import SizeError, UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.networks.load import TWINS
from cnnvis_cli.networks.stylizers import PaintedStyle, StylizerFile, load_stylizer, shape_text
from cnnvis_cli.pictures.read import PictureFile, find_picture, resize
from cnnvis_cli.pictures.sheet import sheet

_ROWS = 4
_COLUMNS = 6  # of the way there, each after twice as many steps
_LICENCE = "MIT, where the style's picture allows it"


class StylizerTraining:
    """One training from its config to its file."""

    def __init__(self, config: TrainConfig, job: Job) -> None:
        self.config, self.job = config, job
        chosen = NetworkConfig.model_validate({"model": config.model, "weights": config.weights})
        self.encoder = job.inputs.network(chosen)
        self.digest = job.inputs.weights_digest(chosen)
        self.layers = list(config.style_layers) or style_layers(self.encoder)[:4]
        self.content_layers = list(config.content_layers) or self.layers[-2:]
        for layer in [*self.layers, *self.content_layers]:
            multiscale.check_maps(self.encoder, layer)
        before = load_stylizer(config.start, torch.device("cpu")) if config.start else None
        self.known = before.styles if before is not None else ()
        known = {(style.name, style.sha256) for style in self.known}
        given = self._given()
        new = [(name, picture, sha) for name, picture, sha in given if (name, sha) not in known]
        if not new and config.only == "style":
            raise UserError(f"{config.start} knows {', '.join(config.style)} already; only=style is for a new style.")
        self.pictures = [picture for _, picture, _ in new]
        self.styles = (*self.known, *(PaintedStyle.of(*one) for one in new))
        if len({style.name for style in self.styles}) < len(self.styles):
            raise UserError("two styles have the same name: " + ", ".join(style.name for style in self.styles))
        self.stylizer = self._stylizer(before).to(job.inputs.device).to(memory_format=torch.channels_last)
        self._check_crops()
        self.photographs = read_photographs(config, job, max(config.judged, _ROWS))
        self.views = self.photographs.views.to(job.inputs.device)
        self.memory: dict[str, Any] = {"shown": []}

    def _given(self) -> list[tuple[str, Tensor, str]]:
        """Name, picture (1, 3, H, W) and SHA-256 of each style that is asked for."""
        return [(stem(what), *self._style(find_picture(what))) for what in self.config.style]

    def _check_crops(self) -> None:
        for side in self.config.size:
            shown = torch.zeros(1, 3, side - OFFSETS, side - OFFSETS, device=self.job.inputs.device)
            try:
                with torch.no_grad():
                    activations(self.encoder, shown, [*self.layers, *self.content_layers])
            except SizeError as error:
                raise UserError(f"size={side}: the network is shown {OFFSETS} px less of each crop, and {error}") from None

    def _style(self, source: PictureFile) -> tuple[Tensor, str]:
        picture = self.job.inputs.read(source)
        short, deepest = min(picture.shape[-2:]), 2 * max(stride(self.encoder, layer) for layer in self.layers)
        side = max(self.config.size) * self.config.style_scale
        if min(short, short * side / max(picture.shape[-2:])) < deepest <= short:
            raise UserError(
                f"style_scale={self.config.style_scale:g}: {source.path} would be used with a long side of {side:.0f} px, and "
                f"{self.encoder.name}'s deepest layer needs {deepest} on both. Take a larger style_scale, or a squarer picture."
            )
        if max(picture.shape[-2:]) < side / 2 or short < deepest:
            raise UserError(
                f"the style {source.path} is {picture.shape[3]} x {picture.shape[2]} px; it is used with a long side of "
                f"{side:.0f}. Take a larger picture or a smaller style_scale."
            )
        return picture, source.digest()

    def _stylizer(self, before: StylizerFile | None) -> Stylizer:
        config = self.config
        if before is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                return Stylizer(StylizerShape(len(self.styles), config.width, config.blocks, config.upsample, config.norm))
        if not isinstance(before.network, Stylizer):
            raise UserError(f"{config.start} is of another make; only stylizers of `cnnvis train` can go on learning.")
        if before.card["encoder"]["sha256"] != self.digest:
            raise UserError(
                f"{config.start} was trained with {before.card['encoder']['model']} {before.card['encoder']['sha256'][:12]}, "
                f"and model={config.model} is {self.digest[:12]}: their losses cannot be compared. Name the same network."
            )
        for key in ("width", "blocks", "upsample", "norm"):
            has, asked = getattr(before.network.shape, key), getattr(config, key)
            if asked not in (has, type(config).model_fields[key].default):
                raise UserError(f"{key}={asked}: {config.start} has {key}={has}, and goes on with it. Leave {key}= away.")
        grown = with_more_styles(before.network, len(self.styles))
        if config.only == "style":
            only_styles(grown)
        return grown

    def judge_network(self) -> Network:
        """Who says in which style a picture is painted: not the network it was trained with, where there is another."""
        twin = TWINS.get(self.config.model)
        if twin is None or self.config.weights:
            return self.encoder
        return self.job.inputs.network(NetworkConfig.model_validate({"model": twin}))

    @contextmanager
    def variant(self) -> Iterator[None]:
        """The loss network as it looks at pictures here."""
        with ExitStack() as stack:
            stack.enter_context(padded(self.encoder, "replicate"))
            stack.enter_context(pooled(self.encoder, self.config.pooling))
            yield

    # A step

    def styled(self, picture: Tensor) -> Tensor:
        """A style picture at the size that gives its strokes the size asked for; never enlarged."""
        factor = min(1.0, self.config.style_scale * max(self.config.size) / max(picture.shape[-2:]))
        return resize(picture, *(max(1, round(length * factor)) for length in picture.shape[-2:]))

    @cached_property
    def loss(self) -> PaintingLoss:
        """The loss of this training, as its network is padded and pooled: to be asked for within `variant`."""
        return self.painting_loss()

    def painting_loss(self) -> PaintingLoss:
        """The loss for pictures of any size: strokes have a size in pixels."""
        statistic = STATISTICS[self.config.statistic]()
        known = [style.picture().to(self.job.inputs.device) for style in self.known]
        targets = []
        for picture in [*known, *self.pictures]:
            found = summarize(self.encoder, self.styled(picture), statistic, self.layers)
            targets.append({layer: statistic.target([found[layer]], [1.0]) for layer in self.layers})
        return self._loss(statistic, targets)

    def _loss(self, statistic: Any, targets: list[dict[str, Summary]]) -> PaintingLoss:
        equal = dict.fromkeys(self.layers, 1.0)
        content = dict.fromkeys(self.content_layers, 1.0)
        strength = balance(self.config.strength)
        return PaintingLoss(self.encoder, statistic, targets, equal, content, strength, self.config.tv, self.config.even)

    @property
    def learning_styles(self) -> list[int]:
        """The numbers of the styles that learn."""
        return list(range(len(self.known) if self.config.only == "style" else 0, len(self.styles)))

    def styles_of(self, step: int, count: int) -> list[int]:
        """Which style each picture of a batch is painted in: in turn, of those that learn."""
        learning = self.learning_styles
        return [learning[(step + place) % len(learning)] for place in range(count)]

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        config, device = self.config, self.job.inputs.device
        side = config.size[config.stage(progress)]
        pictures = self.photographs.crops(config, step, side)
        pictures = pictures.to(device).contiguous(memory_format=torch.channels_last)
        styles = self.styles_of(step, config.batch)
        shares = self.stylizer.mixed(torch.tensor(styles, device=device))
        made = self.stylizer(pictures, shares).float()
        # The loss network's pools see each picture at another offset: at a fixed one the stylizer learns to paint for their
        # lattice, which is seen as dots.
        seen, content = (cut(one, drawn(config.seed, step, "offset")) for one in (made, pictures))
        terms = self.loss.terms(seen, content, styles)
        return {name: term.mean() for name, term in terms.items()}

    # How it is judged

    @torch.no_grad()
    def painted(self, module: Stylizer, views: Tensor, styles: list[int]) -> Tensor:
        """Validation pictures as their files would hold them."""
        shares = module.mixed(torch.tensor(styles, device=views.device))
        made = [module(view[None], share[None]) for view, share in zip(views, shares, strict=True)]
        return eight_bit(torch.cat(made))

    @property
    def rows(self) -> list[tuple[int, int]]:
        """(picture, style) of each row of the validation sheet."""
        new = self.learning_styles
        count = min(max(len(new), 3), max(len(self.views), len(new)), max(_ROWS, 1))
        return [(row % len(self.views), new[row % len(new)]) for row in range(count)]

    def stylizer_of(self, module: nn.Module) -> Stylizer:
        """The stylizer of what learns."""
        assert isinstance(module, Stylizer)
        return module

    def look(self, learner: Learner) -> None:
        """A column of the validation sheet, while it learns."""
        average = self.stylizer_of(learner.average)
        was = average.training
        average.eval()
        made = self.painted(average, self.views[[row for row, _ in self.rows]], [style for _, style in self.rows])
        average.train(was)
        if not shared.milestone(learner.step_number):
            self.save_sheet({"now": made})
            return
        self.memory["shown"] = [*self.memory["shown"], [0, learner.step_number, (made * 255).byte().cpu()]][-_COLUMNS:]
        self.save_sheet({})

    def save_sheet(self, last: dict[str, Tensor]) -> None:
        """NAME.png: rows pictures, columns the photograph, the way there, and the columns of `last`."""
        chosen = [row for row, _ in self.rows]
        columns = {"photograph": self.views[chosen]}
        for _, step, made in self.memory["shown"]:
            columns[f"{step} steps"] = made.float() / 255
        columns |= last
        tiles = [column[row] for row in range(len(chosen)) for column in columns.values()]
        captions = [
            name if number else f"{name}\nto be {self.styles[style].name}"
            for _, style in self.rows
            for number, name in enumerate(columns)
        ]
        self.job.results.save_image(sheet(tiles, captions, columns=len(columns)).image)

    # From beginning to end

    def learning(self) -> Learning:
        config = self.config
        return Learning(
            self.stylizer,
            self.losses,
            config.most_steps,
            **shared.pace(config),
            memory=self.memory,
            device=self.job.inputs.device,
        )

    def card(self, result: Learned, scores: dict[str, Any]) -> dict[str, Any]:
        """What the file says about itself."""
        config = self.config
        left_out = {*not_of(config.kind), "images", "paintings", "style", "held_out", "name", "start", "check"}
        return {
            **shared.common_card("stylizer", config, left_out, len(self.photographs.corpus), result, scores),
            "shape": shape_text(self.stylizer.shape),
            "encoder": {"model": config.model, "weights": config.weights and stem(config.weights), "sha256": self.digest},
            "style_layers": self.layers,
            "content_layers": self.content_layers,
            "styles": [style.as_text() for style in self.styles],
            "size": str(max(config.size)),
            "licence": _LICENCE,
        }
