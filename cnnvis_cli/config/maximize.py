"""Settings of `cnnvis maximize`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from cnnvis_cli.config.base import NetworkConfig, Text
from cnnvis_cli.config.conditions import Condition, above, only_with
from cnnvis_cli.engine.quoting import QUOTED

Preset = Literal["auto", "erhan2009", "simonyan2014", "yosinski2015", "olah2017", "nguyen2016", "fel2023"]


# Adam's step: from noise, and from a picture.
_ADAM, _SLOW = 0.05, 0.01

# A canvas of natural colours is the better picture of a class (ten classes of minivgg judged by squeezenet: median rank 95, by
# olah2017 143), where nothing is asked for that has no meaning on it. Not of digits.
_FREE_WORDS = (
    "model weights output classes precision memory_format titles name seed objective preset size steps rate crops crop_share "
    "crop_spread crop_noise fade against seen_by pictures target patience frames every batch columns"
)
_FREE_ON_CANVAS = frozenset(_FREE_WORDS.split())
_LEAST_CANVAS = 224
_OF_DIGITS = ("lenet",)
_A_LOGIT = re.compile(r"(?:^|[;+*-])\s*(?:class|logit):")
_A_CLASS = re.compile(r"\s*(class|contrast|prob):[^;:*+]+")

_CROPS = Condition("crops", (0,), other=True, words="crops of the picture: crops=8 or preset=fel2023")


class MaximizeConfig(NetworkConfig):
    """argmax over x of objective(x) - regularizers(x) ."""

    told: ClassVar[tuple[str, ...]] = ("model", "maximize", "objective", "preset")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # Erhan, Bengio, Courville, Vincent 2009: plain gradient ascent from noise; there with a norm constraint.
        "erhan2009": {
            "parameterization": "pixels", "start": "noise", "update": "normalized", "rate": 0.004, "jitter": 0.0, "rotate": 0.0,
            "zoom": 0.0, "steps": 200,
        },
        # Simonyan, Vedaldi, Zisserman 2014, eq. 1: class score minus an L2 norm, from the mean (here grey) picture.
        "simonyan2014": {
            "parameterization": "pixels", "start": "grey", "update": "normalized", "rate": 0.004, "l2": 8.0, "jitter": 0.0,
            "rotate": 0.0, "zoom": 0.0, "steps": 300,
        },
        # Yosinski et al. 2015: decay, blur every few steps, and clipping of pixels of small norm and small contribution.
        "yosinski2015": {
            "parameterization": "pixels", "start": "noise", "update": "normalized", "rate": 0.015, "l2": 1.0, "blur_every": 4,
            "blur_sigma": 0.7, "clip_pixels": 0.05, "clip_gradients": 0.2, "jitter": 0.0, "rotate": 0.0, "zoom": 0.0,
            "steps": 400,
        },
        # Olah, Mordvintsev, Schubert 2017: Fourier basis, decorrelated colour, random transforms. These are the defaults.
        "olah2017": {},
        # Nguyen, Yosinski, Clune 2016: from mean pictures of clusters, centre bias; there on pixels, with total variation.
        "nguyen2016": {"start": "facets", "facets": 4, "center_bias": 0.5, "rate": 0.03, "steps": 128},
        # Fel et al. 2023 (MACO): phases alone over magnitudes of natural pictures, crops of a canvas, the rest fades. There a
        # class's logit alone; against the others' mean a second network recognizes more (squeezenet: 9 of 10, not 7).
        "fel2023": {
            "parameterization": "phases", "crops": 8, "fade": True, "steps": 150, "rate": 0.15, "jitter": 0.0, "rotate": 0.0,
            "zoom": 0.0, "batch": 1,
        },
    }  # fmt: skip

    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "p": (above("lp"),),
        "tv_beta": (above("tv"),),
        "blur_sigma": (above("blur_every"),),
        "noise": (Condition("from_noise", (True,), words="random starts: start=noise, diversity above 1", instead="here"),),
        **dict.fromkeys(("crop_share", "crop_spread", "crop_noise", "fade"), (_CROPS,)),
        "diversity_weight": (above("diversity", 1),),
        "diversity_layer": (above("diversity", 1),),
        "pictures": (
            Condition(
                "reads_pictures",
                (True,),
                words="start=facets, parameterization=phases or show=unit",
                instead="with none of the three",
            ),
        ),
        "facets": (only_with("start", "facets"),),
        "decoder": (only_with("parameterization", "decoder"),),
        "every": (only_with("frames", True),),
        "against": (
            Condition("asks_logits", (True,), words="the logit of a class: objective=class:NAME", instead="without one"),
        ),
    }

    @classmethod
    def preset_for(cls, values: Mapping[str, Any]) -> str:
        """fel2023 of classes alone, at the size of a canvas; else olah2017."""
        asked, size = cls._joined(values.get("objective", "")), values.get("size")
        classes = all(_A_CLASS.fullmatch(part) for part in QUOTED.sub("quoted", str(asked)).split(";"))
        large = size in (None, "") or (isinstance(size, int) and size >= _LEAST_CANVAS)
        free = values.keys() <= _FREE_ON_CANVAS and values.get("model") not in _OF_DIGITS
        return "fel2023" if classes and large and free else "olah2017"

    objective: Text = Field("channel:conv5_2:0", description="what to raise; several separated by ';' or as ranges: see README")
    preset: Preset = Field("auto", description="defaults of a paper; auto: fel2023 for classes, else olah2017, which is faster")
    maximize: bool = Field(True, description="false looks for the minimum")
    show: Literal["picture", "unit"] = Field(
        "picture", description="unit: a page of each: what raises it, what lowers it, its best patches, their guided backprop"
    )
    size: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="side in pixels; if empty 128 or the network's own, whichever is larger; with crops 320, or what fits it",
    )
    steps: int = Field(256, ge=1, description="updates at most")
    update: Literal["adam", "lbfgs", "gradient", "normalized", "sign"] = Field(
        "adam", description="gradient: x + rate*g; normalized: g over its mean magnitude; sign: x + rate*sign(g)"
    )
    rate: float | None = Field(
        None,
        gt=0,
        description="step size; if empty 0.05 (adam), 1 (lbfgs), else what first moves values by 0.004 on average",
    )
    parameterization: Literal["fourier", "pixels", "phases", "decoder"] = Field(
        "fourier",
        description="how it is written down; phases: over natural pictures' magnitudes; decoder: as a code (Nguyen 2016)",
    )
    decoder: Text = Field("", description="a file of `cnnvis train kind=decoder`; the bundled one for the model if empty")
    start: Text = Field(
        "noise", description="noise, grey, zero (of the network's input), facets, or a picture (file or sample:NAME)"
    )
    noise: float = Field(0.01, gt=0, description="standard deviation of the starting noise (pixels: of values around grey)")
    l2: float = Field(0.0, ge=0, description="weight of the mean squared distance from grey")
    lp: float = Field(0.0, ge=0, description="weight of the mean p-th power of the distance from grey")
    p: float = Field(6.0, ge=1, description="the p of lp")
    tv: float = Field(0.0, ge=0, description="weight of the total variation")
    tv_beta: float = Field(2.0, gt=0, description="its exponent")
    blur_every: int = Field(0, ge=0, description="Gaussian blur every so many steps (pixels only; 0: never)")
    blur_sigma: float = Field(0.5, gt=0, description="its standard deviation in pixels")
    clip_pixels: float = Field(
        0.0, ge=0, le=1, description="share of pixels of smallest norm set to grey each step (pixels only)"
    )
    clip_gradients: float = Field(
        0.0, ge=0, le=1, description="share of pixels of smallest contribution set to grey (pixels only)"
    )
    center_bias: float = Field(0.0, ge=0, description="width of a Gaussian on the gradient, in half sides (0: none)")
    jitter: float = Field(6.0, ge=0, le=8192, description="random shift in pixels")
    rotate: float = Field(8.0, ge=0, le=180, description="random rotation in degrees")
    zoom: float = Field(0.12, ge=0, le=2, description="random scale, 0.1: a tenth up and down")
    crops: int = Field(0, ge=0, le=256, description="show the network so many random crops of the picture (0: the whole)")
    crop_share: float = Field(0.4, gt=0, le=1, description="side of a crop as a share of the picture's, on average")
    crop_spread: float = Field(0.15, ge=0, le=1, description="standard deviation of that share")
    crop_noise: float = Field(0.06, ge=0, le=1, description="standard deviation of noise that is added to each crop")
    fade: bool = Field(False, description="let what the objective does not rest on fade into white paper (needs crops)")
    against: Literal["auto", "none", "others"] = Field(
        "auto",
        description="what is taken from a class's logit; others: their mean, as contrast:NAME does; auto: on a canvas (crops)",
    )
    seen_by: Text = Field("auto", description="a second network that is asked of a class: MODEL or MODEL@WEIGHTS; none")
    padding: Literal["zeros", "reflect", "replicate", "circular"] = Field(
        "zeros", description="what convolutions see beyond the border; circular where zeros, as trained, draw a frame"
    )
    diversity: int = Field(1, ge=1, le=64, description="so many different pictures of each objective")
    diversity_weight: float = Field(1.0, ge=0, description="how much their Gram matrices must differ")
    diversity_layer: Text = Field("", description="layer of these Gram matrices; the objective's own if empty")
    interpolate: int = Field(0, ge=0, description="so many pictures on the way from a first objective to a second")
    pictures: Text = Field(
        "", description="folder or sample:NAME: start=facets clusters it, phases has its spectrum, show=unit its patches"
    )
    facets: int = Field(4, ge=1, le=64, description="clusters of start=facets")
    target: float | None = Field(None, description="stop when the objective reaches this")
    patience: int | None = Field(
        24, ge=1, description="stop when over so many steps it has risen by less than a fiftieth of its whole rise; null: never"
    )
    frames: bool = Field(False, description="write the way as a GIF")
    every: int = Field(8, ge=1, description="steps between two frames")
    batch: int = Field(16, ge=1, description="pictures optimized at once")
    columns: int | None = Field(None, ge=1, description="columns of a sheet")

    @field_validator("objective", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        return "; ".join(map(str, value)) if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _fitting(self) -> MaximizeConfig:
        on_pixels = {k: getattr(self, k) for k in ("blur_every", "clip_pixels", "clip_gradients") if getattr(self, k)}
        if on_pixels and self.parameterization != "pixels":
            raise ValueError(f"{', '.join(on_pixels)} need parameterization=pixels")
        if self.start == "facets" and not self.pictures:
            raise ValueError("start=facets (preset nguyen2016) needs pictures=FOLDER")
        if self.size is not None and self.jitter > self.size:
            raise ValueError(f"jitter {self.jitter:g} shifts by more than the picture's side of {self.size}: take less")
        if self.show == "unit" and (self.diversity > 1 or self.interpolate or self.start == "facets" or not self.maximize):
            raise ValueError(
                "show=unit raises and lowers each unit once: without diversity, interpolate, facets, maximize=false"
            )
        if self.parameterization == "phases" and self.start != "noise":
            raise ValueError(f"parameterization=phases begins with random phases; start={self.start} has no effect")
        return self

    @property
    def first_rate(self) -> float | None:
        """The step size, as asked for or of the update; None where it is to be measured."""
        return self.rate or {"adam": _SLOW if self.from_picture else _ADAM, "lbfgs": 1.0}.get(self.update)

    @property
    def from_picture(self) -> bool:
        """Whether it starts from a picture, which is to be recognized for the first steps."""
        return self.start not in ("noise", "grey", "zero", "facets")

    @property
    def from_noise(self) -> bool:
        """Whether `noise` is in the start."""
        return self.parameterization not in ("phases", "decoder") and (self.start == "noise" or self.diversity > 1)

    @property
    def asks_logits(self) -> bool:
        """Whether the objective names the logit of a class."""
        return _A_LOGIT.search(QUOTED.sub("quoted", self.objective)) is not None

    @property
    def against_others(self) -> bool:
        """Whether the mean of the other classes is taken from a class's logit."""
        return self.against == "others" or (self.against == "auto" and self.crops > 0)

    @property
    def reads_pictures(self) -> bool:
        """Whether `pictures` is looked at."""
        return self.start == "facets" or self.parameterization == "phases" or self.show == "unit"

    def words(self) -> list[str]:
        preset = [] if self.preset == "olah2017" else [self.preset]
        return [self.model, f"{'' if self.maximize else 'min-'}{self.objective}", *preset]
