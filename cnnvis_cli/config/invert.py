"""Settings of `cnnvis invert`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from cnnvis_cli.config.base import NetworkConfig, Text, TextList, spelled_out, stem
from cnnvis_cli.config.conditions import Condition, above, only_with


class InvertConfig(NetworkConfig):
    """argmin over x of |Phi(x) - Phi0|^2 / |Phi0|^2 + priors, each in units of natural pictures (Mahendran, Vedaldi 2015)."""

    told: ClassVar[tuple[str, ...]] = ("model", "image", "code", "mean", "layers")

    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "image": (Condition("of_a_picture", (True,), words="a picture's own code", instead="with code or mean"),),
        "compare": (only_with("method", "decoder"),),
        "decoder": (
            Condition("decodes", (True,), words="method, start or parameterization=decoder", instead="with none of them"),
        ),
        "count": (only_with("method", "optimize"), only_with("start", "noise")),
        "channels": (only_with("method", "optimize"),),
        "prune": (only_with("method", "optimize"),),
        "beta": (above("variation"),),
        "alpha": (above("norm"),),
        "following": (
            Condition("weighs_channels", (True,), words="channels=true or prune above 0", instead="with neither of the two"),
        ),
        "reconstruct": (only_with("channels", True),),
        "labelled": (above("prune"),),
        "draws": (above("prune"),),
    }

    image: Text = Field("sample:chelsea", description="picture whose code is inverted: a file or sample:NAME")
    code: Text = Field("", description="instead: a .npy of one layer's output")
    mean: Text = Field("", description="instead: the mean code of this folder of pictures")
    layers: TextList = Field(
        ("blocks",), description="layers to invert (also: layer=); blocks: the last at each size of maps; all: every one"
    )
    count: int = Field(1, ge=1, le=64, description="so many different pictures of each code, from different seeds")
    size: int | None = Field(None, ge=8, le=2048, description="side in pixels; the network's own if empty")
    method: Literal["optimize", "decoder"] = Field(
        "optimize", description="decoder: in one pass of a network that learned it (Dosovitskiy, Brox), all its levels"
    )
    decoder: Text = Field("", description="a file of `cnnvis train kind=decoder`; the bundled one for the model if empty")
    compare: bool = Field(True, description="method=decoder: the optimizer's pictures of the same codes beneath")
    start: Literal["noise", "decoder"] = Field("noise", description="decoder: the optimizer goes on from its pass")
    parameterization: Literal["auto", "pixels", "fourier", "decoder"] = Field(
        "auto",
        description="how the picture is written down; auto: fourier for layers of coarse maps, else pixels; decoder: as a code",
    )
    steps: int | None = Field(
        None, ge=1, description="updates at most; if empty 400, and 800 more where the code is further off than 0.1"
    )
    rate: float | None = Field(None, gt=0, description="first step size; if empty 0.2, of fourier 0.1")
    noise: float | None = Field(
        None, gt=0, description="standard deviation of the start; if empty 0.12 for fourier, 0.1 for pixels"
    )
    tolerance: float = Field(
        0.05,
        ge=0,
        description="distance of codes that does not count, in units of a blur by half the map's pitch; 0: all counts",
    )
    variation: float = Field(0.08, ge=0, description="weight of the total variation, in units of natural pictures")
    beta: float = Field(2.0, ge=1, le=4, description="its exponent")
    norm: float = Field(0.05, ge=0, description="weight of the alpha-norm, in units of natural pictures")
    alpha: float = Field(6.0, ge=1, description="its exponent")
    channels: bool = Field(False, description="rank the layer's channels by how much they matter to what follows")
    following: Text = Field("", description="the layer where that is measured; the logits if empty")
    reconstruct: int = Field(8, ge=0, description="of so many most and least important channels, the change of the inversion")
    prune: float = Field(0.0, ge=0, le=1, description="share of channels to prune up to, for the curve of accuracy")
    labelled: Text = Field("", description="folder whose subfolders are class names or numbers, for that curve")
    draws: int = Field(5, ge=1, le=100, description="random orders that the curve is compared with")

    @property
    def decodes(self) -> bool:
        """Whether a decoder takes part."""
        return "decoder" in (self.method, self.start, self.parameterization)

    @model_validator(mode="before")
    @classmethod
    def _one_layer(cls, values: Any) -> Any:
        return spelled_out(values, "layer", "layers", "{}", ("layers",))

    @model_validator(mode="after")
    def _fitting(self) -> InvertConfig:
        if self.start == "decoder" and self.parameterization == "decoder":
            raise ValueError("start=decoder is for pixels and fourier; parameterization=decoder begins with a code")
        if self.code and self.mean:
            raise ValueError("code and mean exclude each other")
        one = len(self.layers) == 1 and self.layers[0] not in ("all", "blocks")
        for key in ("code", "channels", "prune"):
            if getattr(self, key) and not one:
                raise ValueError(f"{key} needs the layer: layer=NAME")
        if self.channels and (self.code or self.mean):
            raise ValueError("channels are ranked on a picture (image=), not on a code")
        if self.prune and not self.labelled:
            raise ValueError("prune needs labelled=FOLDER, with a subfolder for each class")
        return self

    @property
    def of_a_picture(self) -> bool:
        """Whether `image` is looked at."""
        return not (self.code or self.mean)

    @property
    def weighs_channels(self) -> bool:
        """Whether what follows the layer is looked at."""
        return self.channels or bool(self.prune)

    def words(self) -> list[str]:
        return [self.model, stem(self.code or self.mean or self.image), "-".join(self.layers)]
