"""`style method=adain|wct|transport|histogram`: any style in one pass of a decoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cnnvis_cli.commands.shared import multiscale, style_pass
from cnnvis_cli.config.style import StyleConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import luma
from cnnvis_cli.engine.statistics.transports import TRANSPORTS, Histogram
from cnnvis_cli.engine.synthesis.colors import recolored, with_colors_of
from cnnvis_cli.engine.synthesis.pass_scores import blob, checkerboard
from cnnvis_cli.engine.synthesis.style import Region, other_layers, shares
from cnnvis_cli.engine.synthesis.transfers import Exchange, level_targets, targets, transferred
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.networks.decoders import load_decoder
from cnnvis_cli.networks.learned import check_encoder
from cnnvis_cli.pictures.film import FILMS
from cnnvis_cli.pictures.read import find_pictures, resize

_PLAIN_STRENGTH = StyleConfig.model_fields["strength"].default  # no word of the user's: the whole way
_MOST_SORTED = 3000 * 3000  # pixels; a histogram wants all values of a map at once
_SCORED = 512


def run(config: StyleConfig, job: Job) -> None:
    if config.content.lower().endswith(tuple(FILMS)):
        raise UserError(f"method={config.method} takes pictures; films are painted by a stylizer: stylizer=paintings.")
    transfer = TransferPass(config, job, job.inputs.network(config))
    style_pass.over_photographs(
        job, find_pictures(config.content), f"style {config.method}", transfer.fitted, transfer.one, transfer.scores
    )


class TransferPass:
    """A decoder with what its codes are given. `styles`: the style pictures, where they are read already."""

    def __init__(self, config: StyleConfig, job: Job, network: Network, styles: list[Tensor] | None = None) -> None:
        self.config, self.job, self.network = config, job, network
        self.file = load_decoder(config.decoder, config.model, job.inputs.device)
        check_encoder(self.file.name, self.file.card, config.model, job.inputs.weights_digest(config))
        if self.file.network.shape.skips:
            raise UserError(
                f"{self.file.name} has skips: it is given the content's own maps, which would bring its style back."
            )
        job.resume.rests_on(f"decoder {self.file.name}", self.file.sha256)
        self.levels = config.levels or self.file.levels[:-1] or self.file.levels
        self.at = frozenset(self.file.level(layer) for layer in self.levels)
        self.styles = style_pass.style_pictures(config, job) if styles is None else styles
        given = config.style_shares or (1.0,) * len(self.styles)
        self.shares = list(shares(dict(zip(map(str, range(len(given))), given, strict=True))).values())
        transport = TRANSPORTS[config.method]
        self.transport = Histogram(config.seed) if transport is Histogram else transport()
        self.masks = [luma(job.inputs.read_one(what))[:, :1] for what in config.masks]
        job.record.note(decoder={"name": self.file.name, "sha256": self.file.sha256, "levels": list(self.levels)})
        job.record.shows(layers=list(self.levels))

    def fitted(self, picture: Tensor) -> Tensor:
        content = style_pass.at_size(self.config, picture)
        height, width = content.shape[-2:]
        if self.config.method == "histogram" and height * width > _MOST_SORTED:
            raise UserError(
                f"method=histogram sorts whole maps and takes up to {_MOST_SORTED / 1e6:.0f} megapixels; this is {width} x "
                f"{height}. method=transport makes pictures of any size, in strips; or size=..."
            )
        return content

    def _style_at(self, style: Tensor, size: int) -> Tensor:
        """A style picture at the size that gives its strokes the size asked for; never enlarged."""
        height, width = style.shape[-2:]
        factor = min(1.0, self.config.style_scale * size / max(height, width))
        factor = max(factor, 32 / min(height, width))
        return resize(style, round(height * factor), round(width * factor))

    def one(self, content: Tensor) -> Tensor:
        """(1, 3, H, W) of a picture of the right size: with the styles' statistics, the colours, under the masks."""
        config = self.config
        styles = [self._style_at(one, max(content.shape[-2:])) for one in self.styles]
        if config.colors == "histogram":
            styles = [recolored(one, content) for one in styles]
        codes = [level_targets(self.network, one, self.levels) for one in styles]
        if self.masks:
            sized = [resize(mask, *content.shape[-2:])[0, 0] for mask in self.masks]
            regions = [
                Region(targets(self.transport, [code], [1.0]), mask=mask) for code, mask in zip(codes, sized, strict=True)
            ]
        else:
            regions = [Region(targets(self.transport, codes, self.shares))]
        strength = 1.0 if config.strength == _PLAIN_STRENGTH else config.strength
        made = content
        for _ in range(config.rounds):  # what the decoder does not draw of the statistics is asked for again
            exchange = Exchange(self.transport, self.file.levels, self.at, regions, strength)
            made = transferred(self.network, self.file.network, made, exchange)
        return with_colors_of(made, content) if config.colors == "content" else made

    def scores(self, saved: Tensor, content: Tensor) -> dict[str, Any]:
        """On the saved file, at layers where nothing was exchanged; lattice and blobs beside the content's."""
        found: dict[str, Any] = {"checkerboard": checkerboard(saved), "checkerboard_of_content": checkerboard(content)}
        found |= {"blob": blob(saved), "blob_of_content": blob(content)}
        side = min(_SCORED, max(saved.shape[-2:]))
        small, plain = (
            resize(one, *(max(32, round(n * side / max(one.shape[-2:]))) for n in one.shape[-2:])) for one in (saved, content)
        )
        others = other_layers(self.network, self.file.levels)
        styles = [self._style_at(one, side) for one in self.styles]
        distance = multiscale.distances(self.network, others, small, styles, self.shares)
        before = multiscale.distances(self.network, others, plain, styles, self.shares)
        kept = multiscale.content_distance(self.network, [self.file.levels[-1]], small, plain)
        found |= {"style_distance": distance, "style_distance_of_content": before, "style_ratio": distance / max(before, 1e-9)}
        self.job.record.note(score_layers=others)
        return found | {"content_distance": kept}
