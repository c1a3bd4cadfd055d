"""A network as the engine sees it: a frozen module with its preprocessing, its labels and a table of its layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from cnnvis_cli.engine.backend.onednn import PackedConvolutions
from cnnvis_cli.engine.errors import UserError, did_you_mean
from cnnvis_cli.engine.network.layers import Layer, probe_layers

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# ITU-R BT.601, what Pillow's convert("L") uses.
LUMA = (0.299, 0.587, 0.114)


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
    """A classifier that is looked at, never trained. Build it with `Network.frozen`.

    Called with images (B, 3, H, W), sRGB in [0, 1], it gives logits (B, classes).
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    device: torch.device
    bf16: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    packing: PackedConvolutions | None = field(default_factory=PackedConvolutions)

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
    ) -> Network:
        """Take a module over: eval mode, no weight gradients, no in-place rectifiers, BatchNorm folded, fast memory format.

        The module given is copied, not changed, unless it is handed over with `copied=False`, which halves the memory.
        Folding moves a BatchNorm into the convolution right before it, so that the convolution's own output is then the
        normalized one.
        """
        from cnnvis_cli.engine.network.folding import fold_batchnorm  # imports layers, as this module does

        module = (copy.deepcopy(module) if copied else module).eval().requires_grad_(False)
        for child in module.modules():
            if getattr(child, "inplace", False):
                child.inplace = False  # type: ignore[assignment]
        preprocessing = preprocessing or Preprocessing()
        module = fold_batchnorm(module, cls._example(preprocessing))
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        module = module.to(device).to(memory_format=memory_format)
        return cls(name, module, preprocessing, tuple(classes), torch.device(device), bf16, vgg_aliases(module))

    @staticmethod
    def _example(preprocessing: Preprocessing) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, len(preprocessing.mean), preprocessing.size, preprocessing.size, generator=generator)

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=self.device).view(1, -1, 1, 1)

        return column(self.preprocessing.mean), column(self.preprocessing.std), column(LUMA)

    def normalize(self, images: Tensor) -> Tensor:
        """What the module gets for images (B, 3, H, W), sRGB in [0, 1]."""
        mean, std, luma = self._statistics
        if self.preprocessing.grayscale:
            images = (images * luma).sum(1, keepdim=True)
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
        """How its layers are computed: float32, on the CPU with packed convolutions; bfloat16 where it was asked for."""
        packs = self.device.type == "cpu" and self.memory_format == torch.channels_last
        packing = (self.packing if packs else None) or nullcontext()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16), packing:
            yield

    @contextmanager
    def unpacked(self) -> Iterator[None]:
        """PyTorch's own convolutions, for the length of the block: for who records or compares them."""
        packing, self.packing = self.packing, None
        try:
            yield
        finally:
            self.packing = packing

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, classes), float32, for images (B, 3, H, W), sRGB in [0, 1]."""
        with self.arithmetic():
            return self.module(self.normalize(images)).float()

    @property
    def size(self) -> int:
        """Side of the pictures it was trained on, in pixels."""
        return self.preprocessing.size

    @cached_property
    def fixed_size(self) -> bool:
        """Whether it takes pictures of its own size only (a linear layer right on the maps)."""
        side = self.size + 32
        try:
            with torch.no_grad():
                self(torch.zeros(1, 3, side, side, device=self.device))
        except RuntimeError:
            return True
        return False

    @property
    def mean_color(self) -> Tensor:
        """(3,) mean colour of the training pictures, sRGB in [0, 1]."""
        mean = self.preprocessing.mean
        return torch.tensor(mean * 3 if len(mean) == 1 else mean)

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """Every named submodule that gives a tensor, in the order in which they finish."""
        return probe_layers(self.module, self._example(self.preprocessing).to(self.device))

    def layer(self, name: str) -> Layer:
        """The layer of that name or alias (`relu4_3` for torchvision's VGGs). Raises UserError with near names."""
        found = self.layers.get(self.aliases.get(name, name))
        if found is None:
            hint = did_you_mean(name, [*self.layers, *self.aliases])
            raise UserError(f"no layer '{name}' in {self.name}.{hint} `cnnvis layers {self.name}` lists them.")
        return found

    @property
    def logits_layer(self) -> Layer:
        """The last layer: what the network returns."""
        return list(self.layers.values())[-1]

    def class_index(self, name: str | int) -> int:
        """Index of a class by number or by name (case and underscores ignored; one of several synonyms is enough)."""
        count = len(self.classes) or self.logits_layer.channels
        return find_class([self.class_name(index) for index in range(count)], name, self.name)

    def class_name(self, index: int) -> str:
        return self.classes[index] if index < len(self.classes) else f"class {index}"


def find_class(labels: Sequence[str], name: str | int, owner: str) -> int:
    """Index of a class among `labels`; `owner` is whose they are, for the error. See `Network.class_index`."""
    text = str(name).strip()
    if text.lstrip("-").isdigit():
        if 0 <= int(text) < len(labels):
            return int(text)
        raise UserError(f"class {text} is out of range: {owner} has classes 0 to {len(labels) - 1}.")

    def plain(label: str) -> str:
        return label.lower().replace("_", " ").strip()

    for index, label in enumerate(labels):
        if plain(text) == plain(label) or plain(text) in (plain(part) for part in label.split(",")):
            return index
    raise UserError(f"{owner} knows no class '{text}'.{did_you_mean(text, labels)}")


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
