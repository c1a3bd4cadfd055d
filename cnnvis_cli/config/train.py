"""Settings of `cnnvis train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from cnnvis_cli.config.base import CommandConfig, NumberList, Text, TextList, _comma_separated, collection_name, stem
from cnnvis_cli.config.conditions import Condition, only_with
from cnnvis_cli.config.statistics import Duration

SizeList = Annotated[tuple[Annotated[int, Field(ge=16, le=2048)], ...], BeforeValidator(_comma_separated)]
CountList = Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], BeforeValidator(_comma_separated)]
Zoom = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], BeforeValidator(_comma_separated)]

# What a kind takes where it differs from the defaults of the fields, which are the stylizer's.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "stylizer": {},
    "decoder": {
        "size": (64, 96),
        "batch": 6,
        "rate": 0.0015,
        "flat": 0.0,
        "clip": 0.5,
        "average": 0.995,
        "upsample": "nearest",
        "blocks": 1,
    },
    "masker": {
        "size": (64, 96),
        "batch": 8,
        "rate": 0.002,
        "flat": 0.3,
        "average": 0.995,
        "zoom": (0.7, 1.0),
        "width": 48,
        "tv": 3.0,
        "judged": 48,
    },
    "painter": {
        "rate": 0.001,
        "flat": 0.7,
        "clip": 1.0,
    },
    "network": {
        "size": (64,),
        "zoom": (0.6, 1.0),
        "batch": 64,
        "rate": 0.015,
        "warm": 100,
        "flat": 0.0,
        "decay": 5e-4,
        "clip": 2.0,
        "average": 0.995,
        "judged": 200,
    },
}
# Keys that mean something for one kind only.
BELONGS: Mapping[str, tuple[str, ...]] = {
    "stylizer": (*("style", "strength", "statistic", "style_layers", "content_layers", "pooling", "only"),),
    "painter": ("paintings", "critic", "adversarial", "content", "content_loss", "transformed", "autoencoder"),
    "masker": ("area", "gone"),
    "decoder": ("styles", "transfers", "stagewise", "skips"),
    "network": (
        *("architecture", "test", "names", "smoothing", "mixup", "jitter", "turn", "flip", "attack", "bound", "epsilon"),
        *("attack_steps", "ramp", "probe"),
    ),
}
# Keys that several kinds share, but not all.
SHARED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("model", "weights", "held_out"), ("stylizer", "painter", "decoder", "masker")),
    **dict.fromkeys(("upsample", "blocks"), ("stylizer", "painter", "decoder")),
    **dict.fromkeys(("style_scale", "norm", "compare", "even"), ("stylizer", "painter")),
    "width": ("stylizer", "painter", "masker"),
    "start": ("stylizer", "painter", "network"),
    "tv": ("stylizer", "masker"),
    "levels": ("decoder", "masker"),
}


def not_of(kind: str) -> set[str]:
    """Keys that say nothing for a kind."""
    own = {key for key, kinds in SHARED.items() if kind in kinds} | set(BELONGS[kind])
    return {*SHARED, *(key for keys in BELONGS.values() for key in keys)} - own


_STEPS = {"stylizer": 120, "painter": 600, "decoder": 300, "masker": 300, "network": 1000}
_UNLIMITED = 10_000_000


class TrainConfig(CommandConfig):
    """A network that learns from pictures: a stylizer, a decoder or a masker for another network, or a classifier."""

    kind: Literal["stylizer", "painter", "decoder", "masker", "network"] = Field(
        "stylizer",
        description="stylizer, painter: paint in one pass, by statistics or a critic; decoder: pictures from codes; masker: "
        "an object's mask; network: classes",
    )
    images: TextList = Field(
        ("sample:*",), min_length=1, description="what to learn from: folders, globs, files, samples, or lists of paths (.txt)"
    )
    start: Text = Field(
        "", description="go on from this: a bundled or torchvision name, or a .safetensors; random weights if empty"
    )
    size: SizeList = Field((96,), min_length=1, description="side of the crops in pixels; several: one after the other")
    size_shares: NumberList = Field((), description="how the steps are divided among the sizes; equal if empty")
    zoom: Zoom = Field(
        (0.25, 1.0),
        min_length=2,
        max_length=2,
        description="least and largest side of a crop, as a share of the picture's short one",
    )
    batch: int = Field(4, ge=1, description="pictures per step")
    steps: int | None = Field(
        None,
        ge=1,
        description="updates of the weights; 120 (painter 600, decoder, masker 300, network 1000), or what fits the budget",
    )
    budget: Duration | None = Field(None, description="time the steps may take, 90s or 5m: as many as fit, up to `steps`")
    rate: float = Field(0.003, gt=0, description="largest step size")
    warm: int = Field(50, ge=0, description="steps in which it rises to that")
    flat: float = Field(0.5, ge=0, lt=1, description="share of the run that it then stays, before it falls along a cosine")
    decay: float = Field(0.0, ge=0, description="weight decay, of weights but not of biases")
    clip: float = Field(0.5, ge=0, description="largest length of a step's gradient; 0: any")
    average: float = Field(0.99, ge=0, lt=1, description="decay of the mean of the weights that becomes the result")
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: autocast, where the device is fast at it")
    check: Duration = Field(60.0, gt=0, description="time between two looks: validation sheet, and the state to go on from")
    judged: int = Field(6, ge=1, description="held-out pictures that scores are taken from (test pictures under attack in all)")

    model: Text = Field("minivgg", description="the network whose statistics are the loss, as in `style`")
    weights: Text = Field("", description="a file of its weights, or empty for the pretrained ones")
    style: TextList = Field(
        ("sample:flower",), min_length=1, description="the picture(s) in whose styles it is to paint, separated by commas"
    )
    style_scale: float = Field(3.0, gt=0, le=32, description="size of strokes: the style's long side over a crop's")
    strength: float = Field(0.5, ge=0, le=1, description="0: the content alone, 1: the style alone")
    statistic: Literal["wasserstein", "gram", "sliced"] = Field("wasserstein", description="of the layers' maps, as in `style`")
    style_layers: TextList = Field((), description="layers whose statistics count; relu1_1 to relu4_1 or their like if empty")
    content_layers: TextList = Field((), description="layers whose maps are kept; relu3_1 and relu4_1 or their like if empty")
    tv: float = Field(0.2, ge=0, description="weight of the total variation")
    even: float = Field(2.0, ge=0, description="weight of what repeats every four pixels: less leaves a lattice in flat areas")
    pooling: Literal["max", "average"] = Field(
        "average", description="of the loss network; max leaves dots at every second pixel"
    )
    width: int = Field(16, ge=2, le=128, description="channels at full size; twice and four times as many below")
    blocks: int = Field(5, ge=0, le=16, description="residual blocks (of a decoder: of each stage)")
    upsample: Literal["nearest", "bilinear", "transposed", "shuffle"] = Field("bilinear", description="how maps are enlarged")
    norm: Literal["instance", "batch", "none"] = Field("instance", description="how maps are normalized (Ulyanov et al. 2017)")
    only: Literal["all", "style"] = Field(
        "all", description="style: of a `start`, only scales and shifts of the new styles learn"
    )
    levels: TextList = Field(
        (), description="layers whose codes are taken; relu1_1 to relu4_1 or their like if empty (masker: relu2_1 to relu5_1)"
    )
    paintings: TextList = Field(
        ("sample:flower",), min_length=1, description="what the critic of a painter knows: an artist; scores are by the first"
    )
    critic: Literal["features", "pixels"] = Field(
        "features",
        description="what it looks at: the model's maps (Sauer et al. 2021), or pixels (as in the paper, slower to learn)",
    )
    adversarial: float = Field(1.0, ge=0, description="weight of pleasing the critic")
    content: float = Field(8.0, ge=0, description="weight of what is kept of the photograph")
    content_loss: Literal["style-aware", "perceptual", "pixels"] = Field(
        "style-aware", description="kept in the painter's own code, in that of the model, or pixel by pixel"
    )
    transformed: float = Field(30.0, ge=0, description="weight of the means over 10 x 10 pixels")
    autoencoder: float = Field(0.15, ge=0, lt=1, description="share of the run in which it only learns to copy")
    area: float = Field(6.0, ge=0, description="weight of a mask's mean, from halfway on: more makes it smaller")
    gone: float = Field(5.0, ge=0, description="weight of what is left of the class without the mask")
    styles: TextList = Field(
        (), description="pictures whose statistics its codes are given too; else those of other photographs"
    )
    transfers: float = Field(0.5, ge=0, le=1, description="share of the steps in which codes get another picture's statistics")
    stagewise: float = Field(0.7, ge=0, le=1, description="share of the run in which each stage learns by itself")
    skips: bool = Field(False, description="also give each stage the network's own maps (a U-Net): better, but no inversion")
    held_out: TextList = Field((), description="pictures it is judged by and never sees; some of `images` if empty")
    compare: int = Field(30, ge=0, le=1000, description="steps the optimizer gets to be compared with; 0: no comparison")

    architecture: Text = Field("", description="minivgg, lenet or a torchvision name, where it does not follow from `start`")
    test: TextList = Field((), description="pictures that it is judged by and never sees, as `images`; each entry by itself")
    names: dict[str, str] = Field({}, description="from folder to class name, where they differ")
    leave_out: TextList = Field((), description="folders that take no part")
    smoothing: float = Field(0.1, ge=0, lt=1, description="label smoothing")
    mixup: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of batches whose pictures are mixed in pairs (Zhang et al. 2018), but at the last size",
    )
    jitter: float = Field(0.3, ge=0, lt=1, description="how far brightness, contrast and saturation are changed")
    turn: float = Field(0.0, ge=0, le=45, description="degrees by which crops are turned and sheared at most")
    flip: bool = Field(True, description="mirror half of the crops")
    attack: Literal["none", "fast", "pgd"] = Field(
        "none", description="learn from adversarial examples: one step from a random start, or several"
    )
    bound: Literal["l2", "linf"] = Field("l2", description="norm in which an adversarial change is bounded")
    epsilon: float = Field(1.0, gt=0, description="bound of the change at the last size; l2 grows with the side")
    attack_steps: CountList = Field((), description="steps of attack=pgd, per size; 2 if empty")
    ramp: float = Field(0.25, ge=0, le=1, description="share of the run over which epsilon rises, from 0.3 of it")
    probe: int = Field(128, ge=0, description="pictures whose robustness is probed each epoch (collapse: a step back); 0: none")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = KINDS
    preset_key: ClassVar[str] = "kind"
    # What it learned from and how long is in its card.
    told: ClassVar[tuple[str, ...]] = (
        *("kind", "model", "style", "paintings", "architecture", "start", "images", "held_out", "leave_out", "test", "names"),
        *("steps", "budget", "judged"),
    )
    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        **{key: (only_with("kind", kind),) for kind, keys in BELONGS.items() for key in keys},
        **{key: (only_with("kind", "network"), only_with("attack", "fast", "pgd")) for key in ("bound", "epsilon", "ramp")},
        **{key: (only_with("kind", *kinds),) for key, kinds in SHARED.items()},
        **{key: (only_with("kind", "decoder"), only_with("skips", False)) for key in ("styles", "transfers")},
        "attack_steps": (only_with("kind", "network"), only_with("attack", "pgd")),
    }

    @model_validator(mode="after")
    def _fitting(self) -> TrainConfig:
        if self.size_shares and (len(self.size_shares) != len(self.size) or min(self.size_shares) <= 0):
            raise ValueError(f"size_shares: {len(self.size)} sizes want as many shares, each above 0")
        if self.zoom[0] > self.zoom[1]:
            raise ValueError("zoom: the smaller share first")
        if len(self.attack_steps) > 1 and len(self.attack_steps) != len(self.size):
            raise ValueError(f"attack_steps: {len(self.attack_steps)} values for {len(self.size)} sizes")
        if self.kind == "painter" and not (self.adversarial or self.content or self.transformed or self.even):
            raise ValueError("a painter of which nothing is asked: adversarial, content, transformed and even are all 0")
        if self.only == "style" and not self.start:
            raise ValueError("only=style adds a style to a stylizer there is: name it with start=")
        return self

    @property
    def most_steps(self) -> int:
        """As asked for; without a word, what the kind takes, or no limit where there is a budget."""
        return self.steps or (_UNLIMITED if self.budget else _STEPS[self.kind])

    def stage(self, progress: float) -> int:
        """Which of the sizes it is the turn of when a share `progress` of the run is done."""
        shares = self.size_shares or (1.0,) * len(self.size)
        reached = 0.0
        for number, share in enumerate(shares):
            reached += share / sum(shares)
            if progress < reached - 1e-12:
                return number
        return len(shares) - 1

    def words(self) -> list[str]:
        if self.kind == "painter":
            return ["painter", collection_name(self.paintings)]
        if self.kind == "stylizer":
            return ["+".join(map(stem, self.style))]
        if self.kind in ("decoder", "masker"):
            return [self.kind, self.model]
        return [self.architecture or stem(self.start) or "network"]
