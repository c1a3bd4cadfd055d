"""`cnnvis style` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnvis_cli.commands.shared.multiscale import TILE, ladder, make_plan
from cnnvis_cli.commands.style import _caption
from cnnvis_cli.config.load import build_config
from cnnvis_cli.config.style import StyleConfig, cells
from cnnvis_cli.engine.optim.cost import Cost
from cnnvis_cli.errors import ConfigError
from tests.conftest import Ran

Run = Callable[..., Ran]
SMALL = ("size=64", "smallest=64", "steps=4", "-q")


def test_it_comes_nearer_to_the_style_at_layers_that_were_not_asked_for(cnnvis: Run) -> None:
    ran = cnnvis("style", "size=64", "smallest=64", "steps=20", "-q")
    assert ran.code == 0
    with Image.open(ran.files[0]) as picture:
        assert max(picture.size) == 64
    scores = ran.sidecar["scores"]
    assert scores["style_distance"] < 0.6 * scores["style_distance_of_content"]
    assert 0 < scores["content_distance"] < scores["content_distance_of_style"]
    assert not set(ran.sidecar["score_layers"]) & {f"relu{block}_1" for block in range(1, 6)}
    assert set(ran.sidecar["stopped"]) == {"steps"}
    assert ran.sidecar["plan"]["steps"] == 20


def test_same_seed_same_picture(cnnvis: Run) -> None:
    for name in ("a", "b"):
        cnnvis("style", *SMALL, "start=noise", f"name={name}")
    first, second = (Path(f"runs/style/{name}.png").read_bytes() for name in ("a", "b"))
    assert Image.open("runs/style/a.png").tobytes() == Image.open("runs/style/b.png").tobytes()
    assert len(first) > 0
    assert len(second) > 0


@pytest.mark.parametrize("update", ["lbfgs", "adam"])
def test_an_interrupted_run_goes_on_to_the_same_picture(cnnvis: Run, monkeypatch: pytest.MonkeyPatch, update: str) -> None:
    from cnnvis_cli.jobs.progress import Interrupt

    settings = ("size=91", "smallest=64", "steps=4", "-q", f"update={update}")
    assert cnnvis("style", *settings, "name=whole").code == 0
    calls = 0

    def stop(self: Interrupt) -> bool:
        nonlocal calls
        calls += 1
        return calls == 7  # in the second of two scales

    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "__call__", stop)
        assert cnnvis("style", *settings, "name=parts").code == 130
    assert Path("runs/style/parts-partial.png").exists()
    assert cnnvis("style", *settings, "name=parts").code == 0
    whole, parts = (np.asarray(Image.open(f"runs/style/{name}.png")) for name in ("whole", "parts"))
    assert np.array_equal(whole, parts)


@pytest.mark.parametrize(
    "settings",
    [
        ("statistic=gram", "pooling=average"),
        ("statistic=sliced", "colors=histogram"),
        ("style=sample:hubble,sample:gravel", "style_shares=3,1", "colors=content"),
        ("start=style", "update=adam", "padding=reflect", "bleed=0", "tv=0"),
        ("smooth=true", "style_scale=0.5"),
        ("tile=32", "style_layers=relu1_1,relu2_1", "content_layers=relu2_2"),
    ],
)
def test_ways_to_do_it(cnnvis: Run, settings: tuple[str, ...]) -> None:
    ran = cnnvis("style", *SMALL, *settings)
    assert ran.code == 0, ran.err
    assert np.asarray(Image.open(ran.files[0])).std() > 10


def test_a_mask_sends_each_style_to_its_place(cnnvis: Run) -> None:
    content = np.full((128, 128, 3), 128, dtype=np.uint8)
    content[::8] = 160
    Image.fromarray(content).save("content.png")
    for name, color in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        Image.fromarray(np.full((128, 128, 3), color, dtype=np.uint8)).save(f"{name}.png")
    left = np.zeros((128, 128), dtype=np.uint8)
    left[:, :64] = 255
    Image.fromarray(left).save("left.png")
    Image.fromarray(255 - left).save("right.png")
    ran = cnnvis(
        "style", "content=content.png", "style=red.png,blue.png", "masks=left.png,right.png", "strength=1", "size=64",
        "smallest=64", "steps=25", "style_layers=relu1_1,relu2_1", "-q",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    picture = np.asarray(Image.open(ran.files[0])).astype(float)
    redness = (picture[..., 0] - picture[..., 2]).mean(0)
    assert redness[:24].mean() > 20
    assert redness[40:].mean() < -20


def test_a_grid_of_two_keys(cnnvis: Run) -> None:
    ran = cnnvis("style", *SMALL, "grid.strength=[0.1,0.9]", "grid.statistic=[gram,wasserstein,sliced]")
    assert ran.code == 0, ran.err
    rows = ran.sidecar["scores"]["pictures"]
    assert [(row["strength"], row["statistic"]) for row in rows][:4] == [
        (0.1, "gram"), (0.1, "wasserstein"), (0.1, "sliced"), (0.9, "gram"),
    ]  # fmt: skip
    with Image.open(ran.files[0]) as page:
        assert page.width > 3 * 64


def test_the_content_layer_stays_the_same_across_a_grid_of_style_layers(cnnvis: Run) -> None:
    ran = cnnvis("style", *SMALL, "style_layers=relu1_1,relu2_1,relu3_1", "grid.style_layers=[[relu1_1],[relu1_1,relu2_1]]")
    assert ran.code == 0, ran.err
    first, second = ran.sidecar["scores"]["pictures"]
    # How far the style is from the content, at the content's layer: equal only if that layer is.
    assert first["content_distance_of_style"] == second["content_distance_of_style"] > 0
    assert first["content_distance"] != second["content_distance"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("style_layers=relu9_1",), ("relu9_1",)),
        (("style_layers=fc",), ("fc", "maps")),
        (("style=",), ("style",)),
        (("style=sample:hubble,sample:ihc", "style_shares=0,0"), ("style_shares", "sum to 0")),
        (("style=sample:hubble,sample:ihc", "style_shares=1"), ("style_shares", "1 values for 2")),
        (("style_layers=relu1_1", "layer_weights=0"), ("layer_weights", "sum to 0")),
        (("masks=sample:brick",), ("mask", "size")),
        (("smallest=16", "size=32"), ("first scale", "smallest")),
        (("budget=soon",), ("budget", "5m")),
        (("strength=1.5",), ("strength",)),
        (("grid.strenth=[1]",), ("strenth",)),
        (("grid.strength=[2]",), ("strength",)),
        (("statistic=grams",), ("gram",)),
        (("content=nowhere.png",), ("nowhere.png",)),
    ],
)
def test_mistakes_are_told_in_a_line(cnnvis: Run, settings: tuple[str, ...], words: tuple[str, ...]) -> None:
    ran = cnnvis("style", "steps=1", *settings)
    assert ran.code == 2
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err


def test_a_content_smaller_than_what_the_network_sees_is_refused(cnnvis: Run) -> None:
    Image.new("RGB", (20, 20), "teal").save("tiny.png")
    ran = cnnvis("style", "content=tiny.png")
    assert ran.code == 2
    assert "20 px" in ran.err


def test_a_loss_that_becomes_nan_keeps_the_best_picture(cnnvis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnvis_cli.engine.synthesis.style import StyleLoss

    value, calls = StyleLoss.value, 0

    def spoiled(self: StyleLoss, acts: dict) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return value(self, acts) * (torch.nan if calls == 6 else 1.0)

    monkeypatch.setattr(StyleLoss, "value", spoiled)
    ran = cnnvis("style", *SMALL)
    assert ran.code == 0
    assert ran.sidecar["stopped"][-1] == "diverged"
    assert np.asarray(Image.open(ran.files[0])).std() > 10


def test_scales_grow_by_the_root_of_two() -> None:
    assert ladder(512, 128) == (128, 181, 256, 362, 512)
    assert ladder(100, 128) == (100,)


def test_a_budget_picks_size_and_steps() -> None:
    config = build_config(StyleConfig, {"budget": "5m"})
    assert config.budget == 300
    cost = Cost(seconds=5e-6, bytes=4000)

    def plan(budget: str, size: int | None = None):
        return make_plan(build_config(StyleConfig, {"budget": budget}), size, 3000, 0.75, cost, True)

    short, long = plan("60s"), plan("1h")
    assert short.sizes[-1] < long.sizes[-1]
    for one, seconds in ((short, 60), (long, 3600)):
        assert one.seconds <= seconds
        assert one.steps >= 30
    fixed = plan("60s", 512)
    assert fixed.sizes[-1] == 512
    assert fixed.seconds <= 60
    assert long.tile == TILE  # what would not fit goes in tiles
    assert short.tile == 0


def test_cells_of_a_grid_are_checked_like_configs() -> None:
    assert len(cells({"a": [1, 2], "b": [3, 4, 5]})) == 6
    with pytest.raises(ConfigError, match="style_scale"):
        build_config(StyleConfig, {"grid": {"style_scale": [1, -1]}})


def test_methods_beside_styles_paint_each_in_its_own(cnnvis: Run) -> None:
    ran = cnnvis("style", *SMALL, "grid={method: [optimize, adain], style: [sample:flower, sample:brick]}")
    assert ran.code == 0, ran.err
    rows = {(row["method"], row["style"]): row["style_distance"] for row in ran.sidecar["scores"]["pictures"]}
    for method in ("optimize", "adain"):
        assert rows[method, "sample:flower"] != rows[method, "sample:brick"], method


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("grid={model: [minivgg, lenet]}",), "a grid is of one network"),
        (("grid={weights: ['', random]}",), "a grid is of one network"),
        (("grid={titles: [true, false]}",), "no key 'titles'"),
        (("grid={strength: [0.1, 0.2]}", "strength=0.9"), "strength has no effect beside a grid"),
        (("grid=paper", "strength=0.9"), "strength has no effect beside a grid"),
        (("content_weights=1,2",), "content_weights: 2 for 1 content_layers"),
        (("grid={content_weights: [1, [1, 2]]}",), "content_weights: 2 for 1 content_layers"),
    ],
)
def test_what_a_grid_would_not_heed_is_refused(cnnvis: Run, settings: tuple[str, ...], said: str) -> None:
    ran = cnnvis("style", "steps=2", "size=64", *settings)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_a_grid_is_named_by_what_it_spans_and_a_cell_by_its_own_values() -> None:
    def named(**grid: list[object]) -> str:
        return build_config(StyleConfig, {"grid": grid}).slug()

    assert len({named(strength=[0.1, 0.2]), named(content=["sample:cat"]), named(strength=[0.1], content=["sample:cat"])}) == 3
    scores = {"style_ratio": 0.5, "content_distance": 1.25}
    growing: dict[str, list[object]] = {"style_layers": [["relu1_1"], ["relu1_1", "relu2_1"]]}
    others: dict[str, list[object]] = {"style_layers": [["relu4_1"], ["relu1_1", "relu4_1"]]}
    mixed: dict[str, list[object]] = {"style": [["sample:flower"], ["sample:flower", "a/brick.jpg"]]}
    shown = [
        _caption({key: value[-1]}, scores, grid).split("\n") for grid in (growing, others, mixed) for key, value in grid.items()
    ]
    assert [lines[0] for lines in shown] == ["layers to relu2_1", "layers relu1_1+relu4_1", "style flower+brick"]
    assert shown[0][1:] == ["style left 50%", "content 1.25"]


def test_coefficients_of_waves_leave_less_grain_than_pixels(cnnvis: Run) -> None:
    """On a network whose first convolution strides, pixels of one residue hear the same gradient: a lattice."""
    grain = {}
    for way in ("fourier", "pixels"):
        settings = ("model=resnet18", "weights=random", "smooth=false", "size=96", "smallest=96", "steps=25", "tv=0")
        ran = cnnvis("style", *settings, "-q", f"parameterization={way}", f"name={way}")
        assert ran.code == 0, ran.err
        assert ran.sidecar["scores"]["style_ratio"] < 0.7
        picture = np.asarray(Image.open(ran.files[0]).convert("L"), dtype=float)
        grain[way] = np.abs(picture[1:-1, 1:-1] - (picture[:-2, 1:-1] + picture[2:, 1:-1]) / 2).mean()
    assert grain["fourier"] < 0.8 * grain["pixels"]
