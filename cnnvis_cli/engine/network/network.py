"""A network as the engine sees it: a frozen module with its preprocessing, its labels and a table of its layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cnnvis_cli.engine.arithmetic import Switch, accelerate
from cnnvis_cli.engine.errors import RunError, SizeError, UnknownLayer, UserError, did_you_mean, shortened
from cnnvis_cli.engine.network.classes import find_class, labels_of
from cnnvis_cli.engine.network.layers import OUTPUT, Layer, probe_layers
from cnnvis_cli.engine.network.layouts import Layout
from cnnvis_cli.engine.network.outputs import Reading
from cnnvis_cli.engine.network.sizes import Sizes, Trials, example, find_sizes
from cnnvis_cli.engine.network.trial import ready, settle, try_out
from cnnvis_cli.engine.pixels import luma

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """From sRGB in [0, 1] to what the module was trained on.

    `mean`, `std`: per channel, of the training pictures in [0, 1]. `size`: side of the training pictures in pixels.
    `resize`: short side a photograph is brought to before the centre crop of `size`. One-channel networks get the luma.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    size: int = 224
    resize: int = 256

    @property
    def grayscale(self) -> bool:
        return len(self.mean) == 1


@dataclass(eq=False)
class Network:
    """A network that is looked at, never trained. Build it with `Network.frozen`, which measures it on a trial run.

    `measured`: what others measured of it, by what and at which size, so that it is measured once. `known_sizes`: which it
    takes, where that is known from before; `on_sizes` is told when they are found.

    Called with images (B, 3, H, W), sRGB in [0, 1], it gives logits (B, classes): what `forward` returns, by its `reading`.
    `notes`: what was made of it that its owner should know. `steady`: two passes over one picture agree.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    device: torch.device
    bf16: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)
    notes: tuple[str, ...] = ()
    steady: bool = True
    faster: Switch | None = None
    measured: dict[Any, Any] = field(default_factory=dict)
    known_sizes: Sizes | None = None
    on_sizes: Callable[[Sizes], None] | None = None

    @classmethod
    def frozen(
        cls,
        name: str,
        module: nn.Module,
        preprocessing: Preprocessing | None = None,
        classes: Sequence[str] = (),
        *,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
        bf16: bool = False,
        copied: bool = True,
        output: str = "",
    ) -> Network:
        """Take a module over: measured on a trial run, eval mode, float32, no weight gradients, no in-place rectifiers,
        BatchNorm folded, fast memory format. Raises Refused where it cannot be looked at.

        The module given is copied, not changed, unless it is handed over with `copied=False`, which halves the memory.
        Folding moves a BatchNorm into the convolution right before it, so that the convolution's own output is then the
        normalized one; it is left where the answers would change, as is the memory format where the module cannot bear another
        (`.view` on maps). `output`: which of several outputs is read.
        """
        module = ready(module)
        module = (copy.deepcopy(module) if copied else module).cpu().float().eval().requires_grad_(False)
        for child in module.modules():
            if getattr(child, "inplace", False):
                child.inplace = False  # type: ignore[assignment]
        preprocessing = preprocessing or Preprocessing()
        channels, size = len(preprocessing.mean), preprocessing.size
        trial = try_out(module, channels, size, output, len(classes) or None)
        fast = settle(module, trial, example(channels, size), channels_last=channels_last)
        module = module.to(device)
        labels = labels_of(classes, trial.reading)
        return cls(
            name,
            module,
            preprocessing,
            labels,
            torch.device(device),
            bf16,
            vgg_aliases(module),
            trial.reading,
            trial.notes,
            trial.steady,
            accelerate(module) if fast else None,
        )

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=self.device).view(1, -1, 1, 1)

        return column(self.preprocessing.mean), column(self.preprocessing.std)

    def normalize(self, images: Tensor) -> Tensor:
        """What the module gets for images (B, 3, H, W), sRGB in [0, 1]."""
        mean, std = self._statistics
        if self.preprocessing.grayscale:
            images = luma(images)
        return ((images - mean) / std).contiguous(memory_format=self.memory_format)

    @cached_property
    def memory_format(self) -> torch.memory_format:
        last = any(
            p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous()
            for p in self.module.parameters()
        )
        return torch.channels_last if last else torch.contiguous_format

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """How its layers are computed: float32; bfloat16 where it was asked for."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield

    @contextmanager
    def plain_arithmetic(self) -> Iterator[None]:
        """PyTorch's own functions, for the length of the block: for who records or compares them."""
        before = self.faster is not None and self.faster.on
        if self.faster is not None:
            self.faster.on = False
        try:
            yield
        finally:
            if self.faster is not None:
                self.faster.on = before

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, classes), float32, for images (B, 3, H, W), sRGB in [0, 1]. Raises SizeError."""
        with self.told(images.shape[2], images.shape[3]), self.arithmetic():
            return self.reading(self.module(self.normalize(images)))

    @property
    def size(self) -> int:
        """Side of the pictures it was trained on, in pixels."""
        return self.preprocessing.size

    @cached_property
    def sizes(self) -> Sizes:
        """Which sizes of pictures it takes: found by trial, unless that is known from before."""
        if self.known_sizes is not None:
            return self.known_sizes
        trials = Trials(self.module, len(self.preprocessing.mean), self.size, self.device)
        found = find_sizes(trials, self.size)
        if self.on_sizes is not None:
            self.on_sizes(found)
        return found

    @property
    def fixed_size(self) -> bool:
        """Whether it takes pictures of its own size only (a linear layer right on the maps, a vision transformer)."""
        return self.sizes.fixed

    @contextmanager
    def told(self, height: int, width: int) -> Iterator[None]:
        """What the network raises within the block because it takes no pictures of that size becomes one SizeError."""
        try:
            yield
        except (UserError, RunError, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            if self.sizes.takes(height, width):
                raise
            raise SizeError(f"{self.name} takes {self.sizes.describe()}, not pictures of {width} x {height} px.") from error

    @cached_property
    def pitch(self) -> int:
        """Pixels from one place of its coarsest maps to the next: sides that are multiples of it leave no pixel out."""
        sides = [layer.shape[1] for layer in self.layers.values() if layer.spatial and layer.shape[1] > 1]
        pitch, multiple = 2 ** round(math.log2(self.size / min(sides, default=self.size))), max(1, self.sizes.multiple)
        return pitch if pitch % multiple == 0 else multiple

    def fitted(self, height: int, width: int, side: int | None = None) -> tuple[int, int]:
        """Height and width at which a whole picture of (height, width) is shown to it: the short side near `side` (default: its
        own size), both multiples of `pitch`, so that nothing is cut off and no pool drops the last rows. Squeezed to a square
        where it takes nothing else. Raises SizeError where a `side` is asked for that cannot be.
        """
        if self.fixed_size:
            if side not in (None, self.size):
                raise SizeError(f"{self.name} takes {self.sizes.describe()}, not {side} px.")
            return self.size, self.size
        side = side or self.size
        step = self.pitch if self.pitch <= side else max(1, self.sizes.multiple)
        least = -(-max(self.sizes.smallest, step) // step) * step
        short = max(least, round(side / step) * step)
        if self.sizes.square:
            return short, short
        long = max(short, round(side * max(height, width) / min(height, width) / step) * step)
        return (short, long) if height <= width else (long, short)

    @property
    def mean_color(self) -> Tensor:
        """(3,) mean colour of the training pictures, sRGB in [0, 1]."""
        mean = self.preprocessing.mean
        return torch.tensor(mean * 3 if len(mean) == 1 else mean)

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """Every named submodule that gives a tensor, in the order in which they finish."""
        return probe_layers(self.module, example(len(self.preprocessing.mean), self.size).to(self.device))

    @cached_property
    def output(self) -> Layer:
        """What it returns as class scores, in the form of a layer that comes after all others."""
        count = self.reading.classes
        return Layer(OUTPUT, "Output", (count,), len(self.layers) + 1_000_000, 1, Layout("vector"))

    def layer(self, name: str) -> Layer:
        """The layer of that name or alias (`relu4_3` for torchvision's VGGs). Raises UserError with near names."""
        if name == OUTPUT:
            return self.output
        found = self.layers.get(self.aliases.get(name, name))
        if found is None:
            hint = did_you_mean(name, [*self.layers, *self.aliases])
            raise UnknownLayer(f"no layer '{shortened(name)}' in {self.name}.{hint}", self.name)
        return found

    def halvings(self, layer: Layer) -> int:
        """How often a layer's maps are half of the picture; convolutions that lose a border do not count."""
        return round(math.log2(self.size / max(layer.shape[1:])))

    @property
    def class_count(self) -> int:
        return self.reading.classes

    def class_index(self, name: str | int) -> int:
        """Index of a class by number or by name (case and underscores ignored; one of several synonyms is enough)."""
        return find_class([self.class_name(index) for index in range(self.class_count)], name, self.name)

    def class_name(self, index: int) -> str:
        return self.classes[index] if index < len(self.classes) else f"class {index}"


def vgg_aliases(module: nn.Module) -> dict[str, str]:
    """The paper's names (`conv4_3 relu4_3 pool4`) for a VGG whose layers stand in one `features` Sequential.

    Empty for any other architecture. A BatchNorm between convolution and rectifier makes no difference.
    """
    features = getattr(module, "features", None)
    if type(module).__name__ != "VGG" or not isinstance(features, nn.Sequential):
        return {}
    names: dict[str, str] = {}
    block, index = 1, 0
    for position, child in enumerate(features):
        if isinstance(child, nn.Conv2d):
            index += 1
            names[f"conv{block}_{index}"] = f"features.{position}"
        elif isinstance(child, nn.ReLU):
            names[f"relu{block}_{index}"] = f"features.{position}"
        elif isinstance(child, nn.MaxPool2d | nn.AvgPool2d):
            names[f"pool{block}"] = f"features.{position}"
            block, index = block + 1, 0
    return names
