"""The loss of style transfer and texture synthesis: statistics of some layers, and the content of others.

Gatys, Ecker and Bethge 2015 (both papers), with statistics of choice, several styles, and masks as in Gatys et al. 2017
("Controlling perceptual factors"): each style has its region, with statistics of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.locality.receptive_field import receptive_fields
from cnnvis_cli.engine.locality.tiling import Place, Places, Tiled
from cnnvis_cli.engine.network.activations import IMAGES, activations
from cnnvis_cli.engine.network.layers import Layer
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import Objective, Term
from cnnvis_cli.engine.statistics import Statistic, Summary, smoothed

# The content starts at distance zero and would hold the picture still: with this share, strength 0.5 is a balance.
CONTENT_SHARE = 0.2


def balance(strength: float) -> float:
    """What the style weighs in the loss at a `strength` in [0, 1] as users give it."""
    return strength / (strength + CONTENT_SHARE * (1 - strength))


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights as parts of their sum. UserError where they sum to 0 or one is negative."""
    total = sum(weights.values())
    if weights and (total <= 0 or min(weights.values()) < 0):
        raise UserError(f"weights must not be negative and must not sum to 0; these are {dict(weights)}.")
    return {name: weight / total for name, weight in weights.items()}


@dataclass(frozen=True)
class Region:
    """Where a style goes, and its `targets` by layer. `mask` (H, W) in [0, 1] at the picture's size; None: everywhere."""

    targets: Mapping[str, Summary]
    share: float = 1.0
    mask: Tensor | None = None


@dataclass
class StyleLoss:
    """strength * style + (1 - strength) * content, to be lowered; both relative to their targets' energies.

    `style`, `content`: weights by layer, used as shares of their sums. `features`: the content's maps (1, C, h, w) by layer, or
    (B, C, h, w) where each picture has its own.
    `smooth`: softmax of all maps first (`statistics.smoothed`); such a loss is no sum over positions and cannot be tiled.
    """

    statistic: Statistic
    regions: Sequence[Region]
    style: Mapping[str, float]
    content: Mapping[str, float] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)
    strength: float = 1.0
    smooth: bool = False

    def __post_init__(self) -> None:
        self.style, self.content = shares(self.style), shares(self.content)
        self.layers = frozenset(self.style) | frozenset(self.content)
        self._norms = {layer: code.square().sum((1, 2, 3)).clamp_min(1e-12) for layer, code in self.features.items()}
        self._pooled: dict[tuple[int, int], Tensor] = {}

    def terms(self, acts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(B,) style and (B,) content distance from whole maps, with the pictures under IMAGES."""
        maps = {layer: smoothed(acts[layer]) if self.smooth else acts[layer] for layer in self.layers}
        places = {layer: Place(0, 0, round(acts[IMAGES].shape[2] / maps[layer].shape[2])) for layer in maps}
        style = acts[IMAGES].new_zeros(len(acts[IMAGES]))
        content = style
        for layer, weight in self.style.items():
            for number, region in enumerate(self.regions):
                where = self._where(number, places[layer], maps[layer])
                style = style + weight * region.share * self.statistic.between(maps[layer], region.targets[layer], where)
        for layer, weight in self.content.items():
            content = content + weight * self._squares(maps[layer], layer, places[layer]) / self._norms[layer]
        return style, content

    def parts(self, acts: Mapping[str, Tensor], places: Places) -> Summary:
        """The sums over positions that `total` wants; pieces of maps will do."""
        found: Summary = {f"{layer}/content": self._squares(acts[layer], layer, places[layer]) for layer in self.content}
        for layer in self.style:
            for number in range(len(self.regions)):
                summary = self.statistic.summary(acts[layer], self._where(number, places[layer], acts[layer]))
                found |= {f"{layer}/{number}/{key}": value for key, value in summary.items()}
        return found

    def total(self, parts: Summary) -> Tensor:
        """(B,) loss from the sums over the whole picture."""
        style: Tensor | float = 0.0
        content: Tensor | float = 0.0
        for layer, weight in self.style.items():
            for number, region in enumerate(self.regions):
                prefix = f"{layer}/{number}/"
                summary = {key.removeprefix(prefix): value for key, value in parts.items() if key.startswith(prefix)}
                style = style + weight * region.share * self.statistic.distance(summary, region.targets[layer])
        for layer, weight in self.content.items():
            content = content + weight * parts[f"{layer}/content"] / self._norms[layer]
        return torch.as_tensor(self._mix(style, content))

    def value(self, acts: Mapping[str, Tensor]) -> Tensor:
        """(B,) loss from whole maps."""
        return torch.as_tensor(self._mix(*self.terms(acts)))

    def objective(self) -> Objective:
        """Minus the loss, for the loop."""
        return Objective(self.layers, lambda acts: -self.value(acts), (Term("style" if self.content else "texture"),))

    def _mix(self, style: Tensor | float, content: Tensor | float) -> Tensor | float:
        return self.strength * style + (1 - self.strength) * content

    def _squares(self, maps: Tensor, layer: str, place: Place) -> Tensor:
        code = self.features[layer][:, :, place.row : place.row + maps.shape[2], place.col : place.col + maps.shape[3]]
        return (maps - code).square().sum((1, 2, 3))

    def _where(self, number: int, place: Place, maps: Tensor) -> Tensor | None:
        """(h, w) a region's weights of the positions of a piece of a map: means of the mask over the stride's squares."""
        mask = self.regions[number].mask
        if mask is None:
            return None
        if (number, place.stride) not in self._pooled:
            self._pooled[number, place.stride] = F.avg_pool2d(mask[None], place.stride, ceil_mode=True)[0]
        pooled = self._pooled[number, place.stride]
        rows = torch.arange(place.row, place.row + maps.shape[2], device=pooled.device).clamp_max(len(pooled) - 1)
        cols = torch.arange(place.col, place.col + maps.shape[3], device=pooled.device).clamp_max(pooled.shape[1] - 1)
        return pooled[rows[:, None], cols]


_NOT_STATISTICS = ("Conv", "Norm", "Linear", "Pool", "Dropout", "Identity", "Pad")


def style_layers(network: Network) -> list[str]:
    """Gatys' relu1_1 ... relu5_1 where a network has them; else, at each of its sizes of maps, the first widest layer
    that is no convolution, normalization, pool or padding."""
    gatys = [f"relu{block}_1" for block in range(1, 6)]
    if all(name in network.layers or name in network.aliases for name in gatys):
        return gatys
    return [_widest(layers)[0] for layers in _by_size(network)][:5]


def other_layers(network: Network, used: Iterable[str]) -> list[str]:
    """The last of the widest layers at each size of maps that are neither among `used` nor a part of these: for scores on
    what was not optimized."""
    taken = {network.layer(name).name for name in used}
    deepest = max(network.layer(name).order for name in used)

    def free(layer: Layer) -> bool:
        part = any(layer.name.startswith(f"{name}.") for name in taken)
        return layer.name not in taken and not part and layer.order <= deepest

    found = [list(filter(free, layers)) for layers in _by_size(network)]
    return [_widest(layers)[-1] for layers in found if layers] or [network.layer(name).name for name in used]


def _widest(layers: Sequence[Layer]) -> list[str]:
    width = max(layer.channels for layer in layers)
    return [layer.name for layer in layers if layer.channels == width]


def _by_size(network: Network) -> list[list[Layer]]:
    """Layers with statistics for each size of maps, by halvings of the picture's (convolutions that lose a border do not make
    another), large maps first. Maps of one position are left out, and maps of the classes (SqueezeNet's last ones): they say
    what is where, not how it is painted, and would outweigh all others."""
    sizes: dict[int, list[Layer]] = {}
    answers = network.class_count
    for layer in network.layers.values():
        usable = layer.spatial and layer.shape[1] > 1 and layer.channels != answers
        if usable and not _linear(network.module.get_submodule(layer.name), layer.kind):
            sizes.setdefault(network.halvings(layer), []).append(layer)
    if not sizes:
        raise UserError(f"{network.name} has no maps to take statistics of.")
    return [sizes[halvings] for halvings in sorted(sizes)]


def _linear(module: nn.Module, kind: str) -> bool:
    """Whether a module is a step before a nonlinearity, or a sequence whose last one stands for it. One that holds others (a
    convolution with its functional ReLU) is what it gives."""
    step = not any(module.children()) and any(word in kind for word in _NOT_STATISTICS)
    return step or isinstance(module, nn.Sequential | nn.Conv2d | nn.ConvTranspose2d)


def stride(network: Network, layer: str) -> int:
    """Pixels from one position of a layer's map to the next; about so where the layer sees the whole of any picture."""
    known = network.layer(layer)
    rows = receptive_fields(network)[known.name].rows
    return rows.stride if rows.size is not None else max(1, round(network.size / max(1, known.shape[1])))


@torch.no_grad()
def wraps(network: Network, layers: Sequence[str], step: int) -> bool:
    """Whether a picture rolled by `step` pixels gives the same maps, rolled: with circular padding it is so for VGGs, but not
    where a convolution has a stride and no padding. Then the network still sees a border."""
    size = 4 * step
    picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(network.device)
    here = activations(network, picture, layers)
    there = activations(network, picture.roll((step, step), (2, 3)), layers)
    shifts = {layer: step * here[layer].shape[2] / size for layer in layers}
    return all(
        shift == int(shift) and torch.allclose(there[layer], here[layer].roll((int(shift),) * 2, (2, 3)), rtol=1e-3, atol=1e-4)
        for layer, shift in shifts.items()
    )


@torch.no_grad()
def summarize(
    network: Network,
    picture: Tensor,
    statistic: Statistic,
    layers: Sequence[str],
    *,
    smooth: bool = False,
    mask: Tensor | None = None,
    tiled: Tiled | None = None,
) -> dict[str, Summary]:
    """Summaries of one picture (1, 3, H, W) by layer; only what lies under `mask` (H, W), if there is one."""
    region = Region({}, mask=mask)
    loss = StyleLoss(statistic, [region], dict.fromkeys(layers, 1.0))
    if tiled is not None:
        parts = tiled.sums(picture, loss.parts)
    else:
        acts = activations(network, picture, layers)
        maps = {layer: smoothed(acts[layer]) if smooth else acts[layer] for layer in layers}
        places = {layer: Place(0, 0, round(picture.shape[2] / maps[layer].shape[2])) for layer in layers}
        parts = loss.parts(maps, places)
    prefixes = {layer: f"{layer}/0/" for layer in layers}
    return {
        layer: {key.removeprefix(prefix): value for key, value in parts.items() if key.startswith(prefix)}
        for layer, prefix in prefixes.items()
    }


@torch.no_grad()
def content_features(
    network: Network, picture: Tensor, layers: Sequence[str], *, smooth: bool = False, tiled: Tiled | None = None
) -> dict[str, Tensor]:
    """The content's maps by layer, for `StyleLoss`."""
    if tiled is not None:
        return {layer: tiled.maps(picture, layer) for layer in layers}
    acts = activations(network, picture, layers)
    return {layer: smoothed(acts[layer]) if smooth else acts[layer] for layer in layers}
