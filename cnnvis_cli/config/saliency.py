"""Settings of `cnnvis saliency`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cnnvis_cli.config.base import NetworkConfig, Text, TextList, _comma_separated, collection_name
from cnnvis_cli.config.conditions import Condition

Method = Literal[
    "gradient",
    "gradient_times_input",
    "smoothgrad",
    "integrated_gradients",
    "guided_backprop",
    "grad_cam",
    "guided_grad_cam",
    "masker",
]


def _with(*methods: str) -> Condition:
    """One of these is `method`, or beside it."""
    return Condition("methods", methods, named="method")


MethodList = Annotated[tuple[Method, ...], BeforeValidator(_comma_separated)]


class SaliencyConfig(NetworkConfig):
    """Which pixels of a picture a class or a unit depends on."""

    told: ClassVar[tuple[str, ...]] = ("model", "image", "target", "method")

    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "layer": (_with("grad_cam", "guided_grad_cam"),),
        "masker": (_with("masker"),),
        "samples": (_with("smoothgrad"),),
        "noise": (_with("smoothgrad"),),
        "steps": (_with("integrated_gradients"),),
        "baseline": (_with("integrated_gradients"),),
    }

    image: TextList = Field(("sample:motorcycle",), description="files, globs, folders or sample:NAME, separated by commas")
    target: Text = Field("predicted", description="predicted, a class's name or index, or an objective: channel:conv4_1:7")
    method: Method = Field("smoothgrad", description="how pixels are weighed")
    beside: MethodList = Field((), description="other methods beside it on one picture, in one figure with their scores")
    masker: Text = Field("", description="for method=masker: a file of `cnnvis train kind=masker`")
    layer: Text = Field("", description="layer of grad_cam; empty: the last one with maps before the target")
    samples: int = Field(16, ge=1, description="noisy copies of smoothgrad")
    noise: float = Field(0.15, ge=0, description="their noise, as a share of the picture's range of values")
    steps: int = Field(32, ge=1, le=1000, description="points of integrated_gradients")
    baseline: Text = Field("mean", description="where integrated_gradients start: mean, grey, blur, noise, zero or a colour")
    smooth: float = Field(1.0, ge=0, le=50, description="Gaussian blur of the map, in percent of the picture's short side")
    size: int | None = Field(None, ge=8, le=4096, description="short side that the network sees; default: its own")
    crop: bool = Field(False, description="only the centre square, as classifiers are evaluated")
    segment: bool = Field(False, description="cut the object out: a mask grown from the map's high and low places")
    score: bool = Field(True, description="deletion and insertion AUC, also of the map shifted, mirrored, and of a blob")
    sanity: bool = Field(False, description="how the map changes when the weights are randomized")
    raw: bool = Field(False, description="write the map's numbers as .npy (one picture)")

    @property
    def methods(self) -> tuple[Method, ...]:
        """Those whose maps are made, `method` first, each once."""
        return tuple(dict.fromkeys((self.method, *self.beside)))

    def words(self) -> list[str]:
        target = [] if self.target == "predicted" else [self.target]
        return [self.model, collection_name(self.image), self.method, *target]
