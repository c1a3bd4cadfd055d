"""Settings of `cnnvis train`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from cnnvis_cli.config.base import CommandConfig, NumberList, Text, TextList, _comma_separated
from cnnvis_cli.config.statistics import Duration

SizeList = Annotated[tuple[Annotated[int, Field(ge=16, le=2048)], ...], BeforeValidator(_comma_separated)]
CountList = Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], BeforeValidator(_comma_separated)]
Zoom = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], BeforeValidator(_comma_separated)]


class TrainConfig(CommandConfig):
    """A network that learns from pictures: a classifier, plain or robust (kind=network)."""

    kind: Literal["network"] = Field("network", description="network: a classifier of labelled pictures")
    images: TextList = Field(
        ("sample:*",), min_length=1, description="what to learn from: folders, globs, files, samples, or lists of paths (.txt)"
    )
    start: Text = Field("", description="go on from this: a bundled or torchvision name, or a .safetensors; random if empty")
    size: SizeList = Field((64,), min_length=1, description="side of the crops in pixels; several: one after the other")
    size_shares: NumberList = Field((), description="how the steps are divided among the sizes; equal if empty")
    zoom: Zoom = Field(
        (0.6, 1.0), min_length=2, max_length=2, description="a crop's side as a share of the picture's short one"
    )
    batch: int = Field(64, ge=1, description="pictures per step")
    steps: int = Field(1000, ge=1, description="updates of the weights at most")
    budget: Duration | None = Field(None, description="time the steps may take, 90s or 5m: as many as fit, up to `steps`")
    rate: float = Field(0.015, gt=0, description="largest step size")
    warm: int = Field(100, ge=0, description="steps in which it rises to that")
    flat: float = Field(0.0, ge=0, lt=1, description="share of the run that it then stays, before it falls along a cosine")
    decay: float = Field(5e-4, ge=0, description="weight decay, of weights but not of biases")
    clip: float = Field(2.0, ge=0, description="largest length of a step's gradient; 0: any")
    average: float = Field(0.995, ge=0, lt=1, description="decay of the mean of the weights that becomes the result")
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: autocast, where the device is fast at it")
    check: Duration = Field(60.0, description="time between two savings of the state that an interrupted run goes on from")

    architecture: Text = Field("", description="minivgg, lenet or a torchvision name, where it does not follow from `start`")
    test: TextList = Field((), description="pictures that it is judged by and never sees, as `images`; each entry by itself")
    names: dict[str, str] = Field({}, description="from folder to class name, where they differ")
    leave_out: TextList = Field((), description="folders that take no part")
    smoothing: float = Field(0.1, ge=0, lt=1, description="label smoothing")
    jitter: float = Field(0.3, ge=0, lt=1, description="how far brightness, contrast and saturation are changed")
    flip: bool = Field(True, description="mirror half of the crops")
    attack: Literal["none", "fast", "pgd"] = Field(
        "none", description="learn from adversarial examples: one step from a random start, or several"
    )
    norm: Literal["l2", "linf"] = Field("l2", description="in which a change is bounded")
    epsilon: float = Field(1.0, gt=0, description="bound of the change at the last size; l2 grows with the side")
    attack_steps: CountList = Field((), description="steps of attack=pgd, per size; 2 if empty")
    ramp: float = Field(0.25, ge=0, le=1, description="share of the run over which epsilon rises, from 0.3 of it")
    probe: int = Field(128, ge=0, description="pictures whose robustness is probed each epoch (collapse: a step back); 0: none")
    judged: int = Field(200, ge=1, description="test pictures (in all) for the robust accuracy of the result")

    # Which keys mean something for which kind only.
    belongs: ClassVar[dict[str, tuple[str, ...]]] = {}

    @model_validator(mode="after")
    def _fitting(self) -> TrainConfig:
        if self.size_shares and len(self.size_shares) != len(self.size):
            raise ValueError(f"size_shares: {len(self.size_shares)} values for {len(self.size)} sizes")
        if self.size_shares and min(self.size_shares) <= 0:
            raise ValueError("size_shares: each must be above 0")
        if self.zoom[0] > self.zoom[1]:
            raise ValueError("zoom: the smaller share first")
        if self.attack_steps and self.attack != "pgd":
            raise ValueError("attack_steps belongs to attack=pgd")
        if len(self.attack_steps) > 1 and len(self.attack_steps) != len(self.size):
            raise ValueError(f"attack_steps: {len(self.attack_steps)} values for {len(self.size)} sizes")
        return self

    def stage(self, progress: float) -> int:
        """Which of the sizes it is the turn of when a share `progress` of the run is done."""
        shares = self.size_shares or (1.0,) * len(self.size)
        reached = 0.0
        for number, share in enumerate(shares):
            reached += share / sum(shares)
            if progress < reached - 1e-12:
                return number
        return len(shares) - 1

    def slug(self) -> str:
        extra = f"_{self.attack}{self.epsilon:g}" if self.attack != "none" else ""
        return f"{self.architecture or self.start or 'network'}{extra}"

    def changed(self, **values: Any) -> TrainConfig:
        return type(self).model_validate(self.model_dump() | values)
