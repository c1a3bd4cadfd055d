"""`style stylizer=`: photographs and films painted by a network in one pass, and what they are worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.commands.shared import multiscale
from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.config.style import DEFAULT_STYLIZER, StyleConfig
from cnnvis_cli.engine.generators.normalization import Held, holding
from cnnvis_cli.engine.generators.stylizer import Stylizer
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import luma
from cnnvis_cli.engine.synthesis.colors import with_colors_of
from cnnvis_cli.engine.synthesis.pass_scores import blob, checkerboard, flicker
from cnnvis_cli.engine.synthesis.passes import stylized
from cnnvis_cli.engine.synthesis.style import other_layers
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.networks.stylizers import StylizerFile, load_stylizer
from cnnvis_cli.pictures.film import FILMS, frames_of
from cnnvis_cli.pictures.read import PictureFile, find_picture, find_pictures, resize
from cnnvis_cli.pictures.write import to_image

# A pass over pictures so many times larger than those it learned from has strokes that look small.
_FAR_LARGER = 16
_PLAIN_STRENGTH = StyleConfig.model_fields["strength"].default  # no word of the user's: the pass as it is
_CUT = 0.2  # mean change of a value from one frame to the next, seen small, from which on it is another scene


def run(config: StyleConfig, job: Job) -> None:
    painter = Painter(config, job)
    if Path(config.content).suffix.lower() in FILMS:
        painter.film(Path(config.content))
        return
    painter.photographs(find_pictures(config.content))


@dataclass(frozen=True)
class Mixture:
    """Shares of the file's styles (S,) that are wanted, and by number those with a share above 0."""

    shares: Tensor
    numbers: tuple[int, ...]
    weights: tuple[float, ...]


def mixture(file: StylizerFile, config: StyleConfig, device: torch.device, *, strict: bool = True) -> Mixture:
    """The styles that the config names, by the file's own names; its first one where none is named. Where not `strict`, all
    alike instead of an error for a style that the file does not know."""
    count = max(1, len(file.styles))
    given = config.style != type(config).model_fields["style"].default
    try:
        numbers = tuple(file.style_number(name) for name in config.style) if given else (0,)
        weights = tuple(config.style_shares) or (1.0,) * len(numbers)
    except UserError:
        if strict:
            raise
        numbers, weights = tuple(range(count)), (1.0,) * count
    shares = torch.zeros(count, device=device)
    for number, weight in zip(numbers, weights, strict=True):
        shares[number] += weight / sum(weights)
    return Mixture(shares, numbers, tuple(weight / sum(weights) for weight in weights))


def style_picture(what: str, file: StylizerFile) -> Tensor | None:
    """The thumbnail of a style that is named as the file does; None where it is a picture of its own."""
    names = [style.name for style in file.styles]
    return file.styles[names.index(what)].picture() if what in names else None


def paint(file: StylizerFile, picture: Tensor, shares: Tensor) -> Tensor:
    """(1, 3, H, W): the pass, in exact strips where the picture is large."""
    if isinstance(file.network, Stylizer):
        return stylized(file.network, picture, shares[None])
    with torch.no_grad():
        return file.network(picture)


def at_size(config: StyleConfig, picture: Tensor) -> Tensor:
    """The picture at the size asked for, or its own."""
    height, width = picture.shape[-2:]
    size = config.size or max(height, width)
    factor = max(size / max(height, width), 16 / min(height, width))
    return resize(picture, round(height * factor), round(width * factor))


def over_photographs(
    job: Job,
    sources: Sequence[PictureFile],
    label: str,
    fitted: Callable[[Tensor], Tensor],
    one: Callable[[Tensor], Tensor],
    scores: Callable[[Tensor, Tensor], dict[str, Any]],
) -> int:
    """Each photograph, fitted, through `one`, saved, and scored beside its content. The long side of the last."""
    rows = []
    alone = len(sources) == 1
    taken: set[str] = set()
    side = 0
    with job.track(label, len(sources)) as bar:
        for number, source in enumerate(sources, start=1):
            job.check_interrupt()
            picture = job.inputs.read(source) if alone else job.inputs.read_or_skip(source)
            if picture is None:
                continue
            content = fitted(picture)
            side = max(content.shape[-2:])
            began = time.perf_counter()
            made = one(content)
            seconds = time.perf_counter() - began
            name = source.name if source.name not in taken else f"{source.name}-{number}"
            taken.add(name)
            saved = job.results.save_picture(made, "" if alone else name)
            rows.append({"picture": source.name, **scores(saved, content), "pass_seconds": round(seconds, 4)})
            bar.advance(number)
    if not rows:
        raise job.inputs.unreadable(list(sources))
    numbers = [key for key, value in rows[0].items() if isinstance(value, float)]
    job.scores.update({key: sum(row[key] for row in rows) / len(rows) for key in numbers})
    if not alone:
        job.scores["pictures"] = len(rows)
        job.record.note(rows=rows)
    return side


class Painter:
    """A stylizer with how it is to be used."""

    def __init__(self, config: StyleConfig, job: Job) -> None:
        self.config, self.job, self.device = config, job, job.inputs.device
        self.file = load_stylizer(config.stylizer or DEFAULT_STYLIZER, self.device)
        job.resume.rests_on(f"stylizer {self.file.name}", self.file.sha256)
        if dropped := self.file.card.get("dropped"):
            job.warn(f"{config.stylizer}: {dropped} running statistics of instance norms dropped; they are never read.")
        self.encoder = self._encoder()
        self.mixture = mixture(self.file, config, self.device)
        if config.masks and len(config.masks) != len(self.mixture.numbers):
            raise UserError(f"masks: {len(config.masks)} for {len(self.mixture.numbers)} styles.")
        self.trained = int(self.file.card.get("size", 256))
        names = [self.file.styles[n].name for n in self.mixture.numbers] if self.file.styles else []
        job.record.note(
            stylizer={"name": self.file.name, "sha256": self.file.sha256, "styles": names, "trained_at": self.trained}
        )

    def _encoder(self) -> Network:
        """The network that the stylizer was trained with: what it is judged by."""
        config, card = self.config, self.file.card
        if "encoder" not in card:
            return self.job.inputs.network(config)
        encoder = card["encoder"]
        default = config.model == type(config).model_fields["model"].default and not config.weights
        if default:
            chosen = {"model": encoder["model"], "weights": ""}
            if encoder["weights"]:
                return self.job.inputs.network(config)
        else:
            chosen = {"model": config.model, "weights": config.weights}
        network_config = NetworkConfig.model_validate(chosen)
        network, digest = self.job.inputs.network(network_config), self.job.inputs.weights_digest(network_config)
        if digest != encoder["sha256"] and not default:
            raise UserError(
                f"{self.file.name} was trained with {encoder['model']} {encoder['sha256'][:12]}, and model={config.model} is "
                f"{digest[:12]}. Leave model= away, or use a stylizer that was trained with it."
            )
        return network

    def fitted(self, picture: Tensor) -> Tensor:
        return at_size(self.config, picture)

    def one(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W) of a picture of the right size: painted, at the strength, with the colours, under the masks."""
        config = self.config
        small = picture
        if config.style_scale != 1:  # strokes have a size in pixels: larger ones are painted smaller, and enlarged
            height, width = (max(16, round(length / config.style_scale)) for length in picture.shape[-2:])
            small = resize(picture, height, width)
        made = self._masked(small) if config.masks else paint(self.file, small, self.mixture.shares)
        made = resize(made, *picture.shape[-2:])
        alpha = 1.0 if config.strength == _PLAIN_STRENGTH else min(1.0, config.strength / self.trained_strength)
        made = torch.lerp(picture, made, alpha) if alpha < 1 else made
        return with_colors_of(made, picture) if config.colors == "content" else made

    @property
    def trained_strength(self) -> float:
        """The strength that the weights were trained for: where less than that is asked for, the photograph is mixed in."""
        return float(self.file.card.get("recipe", {}).get("strength", 0.5)) or 1.0

    def _masked(self, picture: Tensor) -> Tensor:
        """Each style where its mask is white; where masks overlap or are dark, as their shares say."""
        masks = [resize(luma(self.job.inputs.read_one(what)), *picture.shape[-2:]) for what in self.config.masks]
        total = torch.stack(masks).sum(0) + 1e-6
        parts = []
        for number, mask in zip(self.mixture.numbers, masks, strict=True):
            alone = torch.zeros_like(self.mixture.shares)
            alone[number] = 1
            parts.append(paint(self.file, picture, alone) * (mask + 1e-6 / len(masks)) / total)
        return torch.stack(parts).sum(0)

    # Photographs

    def photographs(self, sources: Sequence[PictureFile]) -> None:
        side = over_photographs(self.job, sources, f"style {self.file.name}", self.fitted, self.one, self.scores)
        if side > _FAR_LARGER * self.trained:
            self.job.warn(f"{self.file.name} learned at {self.trained} px: strokes look small at {side}. size=, style_scale=.")

    def styles(self) -> list[Tensor]:
        """The styles wanted, at the size of strokes that was learned."""
        recipe = self.file.card.get("recipe", {})
        side = self.trained * float(recipe.get("style_scale", 3.0))
        found = []
        for number in self.mixture.numbers:
            picture = self.file.styles[number].picture().to(self.device)
            factor = min(1.0, side / max(picture.shape[-2:]))
            found.append(resize(picture, *(max(32, round(length * factor)) for length in picture.shape[-2:])))
        return found

    def scores(self, saved: Tensor, content: Tensor) -> dict[str, Any]:
        """On the saved file, at layers that were not learned from; lattice and blobs beside the content's."""
        card = self.file.card
        found: dict[str, Any] = {"checkerboard": checkerboard(saved), "checkerboard_of_content": checkerboard(content)}
        found |= {"blob": blob(saved), "blob_of_content": blob(content)}
        if not self.file.styles:
            return found
        # Statistics of a smaller version of what is large: a score should not take longer than the picture.
        side = min(512, max(saved.shape[-2:]))
        small, plain = (
            resize(one, *(max(32, round(n * side / max(one.shape[-2:]))) for n in one.shape[-2:])) for one in (saved, content)
        )
        others = other_layers(self.encoder, card["style_layers"])
        styles, shares = self.styles(), list(self.mixture.weights)
        distance = multiscale.distances(self.encoder, others, small, styles, shares)
        before = multiscale.distances(self.encoder, others, plain, styles, shares)
        kept = multiscale.content_distance(self.encoder, card["content_layers"], small, plain)
        found |= {"style_distance": distance, "style_distance_of_content": before, "style_ratio": distance / max(before, 1e-9)}
        return found | {"content_distance": kept}

    # Films

    def film(self, path: Path) -> None:
        """Every frame with statistics that follow those before, until the scene changes; an MP4, scored for flicker."""
        frames, rate = frames_of(path)
        held, made = Held(self.config.steady), []
        before: Tensor | None = None
        with self.job.track(f"style {path.name}", len(frames)) as bar, holding(self.file.network, held):
            for number, frame in enumerate(frames, start=1):
                self.job.check_interrupt()
                picture = self.fitted(frame.to(self.device))
                small = resize(picture, 32, 32)
                if before is not None and (small - before).abs().mean() > _CUT:
                    held.forget()
                before = small
                made.append(to_image(self.one(picture)))
                bar.advance(number)
        self.job.results.save_video(made, rate=rate)
        first = self.fitted(frames[0].to(self.device))
        self.job.scores.update({"frames": len(made), **flicker(self.one, first)})


def started(config: StyleConfig, job: Job, content: Tensor) -> Tensor:
    """The pass that the optimizer goes on from, for `start=stylizer`."""
    file = load_stylizer(config.stylizer, content.device)
    job.resume.rests_on(f"stylizer {file.name}", file.sha256)
    return paint(file, content, mixture(file, config, content.device, strict=False).shares)


def style_pictures(config: StyleConfig, job: Job) -> list[Tensor]:
    """The style pictures of a config; a name that the stylizer knows is the picture in its file, and so is its first style
    where none is named."""
    painted = config.stylizer or (DEFAULT_STYLIZER if config.in_one_pass else "")
    file = load_stylizer(painted, job.inputs.device) if painted else None
    if file is not None and file.styles and config.style == type(config).model_fields["style"].default:
        return [file.styles[0].picture().to(job.inputs.device)]
    found = []
    for what in config.style:
        thumbnail = None if file is None else style_picture(what, file)
        found.append(job.inputs.read(find_picture(what)) if thumbnail is None else thumbnail.to(job.inputs.device))
    return found
