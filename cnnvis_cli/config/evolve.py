"""Settings of `cnnvis evolve`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from cnnvis_cli.config.base import NetworkConfig, NumberList, Text, TextList, stem
from cnnvis_cli.config.conditions import Condition, given, only_with

Preset = Literal["default", "nguyen2015-mnist-direct", "nguyen2015-mnist-cppn", "nguyen2015-imagenet-cppn"]
_PAPER = {"strategy": "map_elites", "goal": None}


class EvolveConfig(NetworkConfig):
    """Nguyen, Yosinski, Clune 2015, "Deep Neural Networks are Easily Fooled"."""

    told: ClassVar[tuple[str, ...]] = ("model", "evaluator", "encoding", "targets", "preset")

    # Numbers of the paper (sections 2.2 and 3) and, where it is silent, of the authors' code. Deviations in configs/evolve/.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "nguyen2015-mnist-direct": {
            **_PAPER, "model": "lenet", "encoding": "direct", "children": 200, "generations": 200,
            "rate": 0.1, "halve_every": 1000, "eta_m": 15.0, "cross_rate": 0.5, "eta_c": 10.0,
        },
        "nguyen2015-mnist-cppn": {
            **_PAPER, "model": "lenet", "encoding": "cppn", "children": 200, "generations": 200, "eta_m": 15.0,
            "rates": {"add_node": 0.0, "add_link": 0.5, "split": 0.5, "remove_link": 0.3, "remove_node": 0.2},
        },
        "nguyen2015-imagenet-cppn": {
            **_PAPER, "encoding": "cppn", "children": 400, "generations": 5000, "eta_m": 15.0,
            "rates": {"add_node": 0.0, "add_link": 0.5, "split": 0.5, "remove_link": 0.3, "remove_node": 0.2},
        },
    }  # fmt: skip

    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "elites": (only_with("strategy", "evolution_strategy"),),
        "stop_at_goal": (given("goal"),),
        "rate": (only_with("encoding", "direct", "shapes"),),
        "halve_every": (only_with("encoding", "direct"),),
        "cross_rate": (only_with("encoding", "direct", "shapes"),),
        "eta_c": (only_with("encoding", "direct"),),
        "rates": (only_with("encoding", "cppn"),),
        "shape": (only_with("encoding", "shapes"),),
        "shapes": (only_with("encoding", "shapes"),),
        "render": (only_with("encoding", "cppn", "shapes"),),
        **{key: (given("evaluator"),) for key in ("logits", "labels", "timeout", "retries", "queries", "cache")},
        **{
            key: (Condition("reads_onnx", (True,), words="evaluator=FILE.onnx", instead="with another judge"),)
            for key in ("mean", "std")
        },
    }

    model: Text = Field("lenet", description="lenet, minivgg, a torchvision name, or package.module:factory (--trust-code)")
    preset: Preset = Field("default", description="numbers of a paper")
    evaluator: Text = Field(
        "",
        description="another black box than model: http://..., file.onnx, or package.module:function (--trust-code) from "
        "images (N, H, W, 3), uint8, to probabilities (N, classes); wants size=, and labels= for names",
    )
    targets: TextList = Field((), description="classes to evolve images for; all if empty")
    encoding: Literal["direct", "cppn", "shapes"] = Field(
        "cppn", description="pixels, growing graphs of functions, or a list of shapes"
    )
    strategy: Literal["map_elites", "evolution_strategy"] = Field(
        "map_elites", description="one archive in which every child competes for every class, or each class on its own"
    )
    generations: int = Field(50, ge=1, le=1_000_000, description="at most; the first, random one is number 0")
    children: int = Field(200, ge=1, le=100_000, description="images per generation")
    elites: int = Field(1, ge=1, le=1000, description="elites kept per class (mu of evolution_strategy)")
    goal: float | None = Field(
        0.9999, gt=0, le=1, description="classes that have reached it do not breed while others have not; null: all breed alike"
    )
    stop_at_goal: bool = Field(False, description="end as soon as all classes have reached the goal")
    rate: float = Field(0.1, gt=0, le=1, description="chance that a gene mutates (direct, shapes)")
    halve_every: int = Field(1000, ge=1, description="generations after which that chance is halved (direct)")
    eta_m: float | None = Field(
        None, ge=0, description="polynomial mutation, smaller: larger steps; direct 2, cppn 15, shapes 10 by default"
    )
    cross_rate: float = Field(0.5, ge=0, le=1, description="chance that two parents cross (direct, shapes)")
    eta_c: float = Field(10.0, ge=0, description="simulated binary crossover, smaller: wider (direct)")
    rates: dict[str, float] = Field({}, description="cppn: add_node add_link split remove_link remove_node function weight")
    shape: Literal["triangles", "ellipses"] = Field("triangles", description="what shapes are")
    shapes: int = Field(10, ge=1, le=500, description="shapes of a first image; at most five times as many later")
    size: int | None = Field(None, ge=8, le=4096, description="side in pixels; the network's own if null")
    grayscale: bool | None = Field(None, description="grey images; as the network was trained if null")
    batch: int | None = Field(None, ge=1, description="images per call of the evaluator; what fits memory well if null")
    mean: NumberList = Field((0.0,), description="of the input, for a file.onnx: (pixels in [0, 1] - mean) / std")
    std: NumberList = Field((1.0,), description="its standard deviation")
    logits: bool = Field(False, description="the evaluator answers logits: apply a softmax")
    labels: Text = Field("", description="a file with a class name per line, for an evaluator that gives none")
    timeout: float = Field(30.0, gt=0, description="seconds an evaluator may take for a call")
    retries: int = Field(2, ge=0, le=20, description="further tries of a URL")
    queries: int | None = Field(None, ge=1, description="images that an evaluator may be asked about at most")
    cache: Text = Field("", description="a file that keeps an evaluator's answers across runs")
    save_every: int = Field(10, ge=1, description="generations between two states from which a killed run goes on")
    also: TextList = Field((), description="other networks that judge the elites: MODEL, or MODEL@WEIGHTS")
    frames: Text = Field("", description="a class: its elite's ancestors as a GIF; 'surest' takes the best elite")
    render: int | None = Field(None, ge=8, le=8192, description="elites once more at this size (cppn, shapes)")
    each: bool = Field(False, description="also save every elite as a picture of its own")
    columns: int | None = Field(None, ge=1, description="columns of the contact sheet")

    @model_validator(mode="after")
    def _fitting(self) -> EvolveConfig:
        if self.evaluator and self.size is None and not self.evaluator.endswith(".onnx"):
            raise ValueError("size (pixels) must be given with an evaluator that is a URL or a function")
        return self

    @property
    def reads_onnx(self) -> bool:
        """Whether the judge is a file.onnx."""
        return self.evaluator.endswith(".onnx")

    def words(self) -> list[str]:
        judge = stem(self.evaluator) if self.evaluator else self.model
        preset = [] if self.preset == "default" else [self.preset]
        return [judge, self.encoding, *(["-".join(self.targets)] if self.targets else []), *preset]
