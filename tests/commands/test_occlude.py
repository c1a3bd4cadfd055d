"""`cnnvis occlude` as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Ran

Cli = Callable[..., Ran]

RED = """
from torch import nn

def make():
    module = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module[0].weight.data.copy_(module[0].weight.new_tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1))
    module.preprocessing = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "size": 30}
    return module
"""


@pytest.mark.parametrize(("width", "height"), [(30, 30), (47, 30), (31, 53)])
def test_a_planted_square_is_found_to_the_pixel(width: int, height: int, cnnvis: Cli, tmp_path: Path) -> None:
    (tmp_path / f"red{width}.py").write_text(RED)
    values = np.zeros((height, width, 3), dtype=np.uint8)
    values[11:17, 19:25, 0] = 255
    Image.fromarray(values).save(tmp_path / "square.png")
    model = [f"model=red{width}:make", "image=square.png", f"size={min(width, height)}", "fill=zero", "measure=logit"]
    ran = cnnvis("occlude", *model, "window=1", "raw=true", "--trust-code", "target=1", "score=false", "name=exact")
    assert ran.code == 0, ran.err
    heat = np.load(ran.files[-1])
    np.testing.assert_allclose(heat * heat.size, values[..., 0] / 255, atol=1e-3)
    shown = np.asarray(Image.open(ran.files[1])).astype(int)
    hot = np.abs(shown - shown[0, 0]).max(2) > 40
    assert np.array_equal(hot, values[..., 0] > 0)
    ran = cnnvis("occlude", *model, "window=6", "stride=1", "--trust-code", "target=1", "score=false")
    assert ran.sidecar["scores"]["most_important_window"] == {"top": 11, "left": 19, "height": 6, "width": 6}


def test_boxes_and_the_plain_way_agree_on_the_bundled_network(cnnvis: Cli) -> None:
    words = ["occlude", "window=24", "stride=20", "score=false", "raw=true"]
    boxes = cnnvis(*words, "evaluation=boxes", "check=3", "name=boxes")
    plain = cnnvis(*words, "evaluation=plain", "name=plain")
    assert boxes.code == plain.code == 0, boxes.err
    one, other = np.load(boxes.files[-1]), np.load(plain.files[-1])
    assert np.abs(one - other).max() < 1e-4 * np.ptp(other)
    scores = boxes.sidecar["scores"]
    assert scores["recomputed"] == "boxes"
    assert scores["largest_difference_from_the_plain_way"] < 1e-4 * np.ptp(other)
    assert plain.sidecar["scores"]["recomputed"] == "everything"


ATTENTION = """
from torch import nn

class Attention(nn.Module):
    preprocessing = {"size": 32}

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 3)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        tokens = self.conv(x).flatten(2).mT
        return self.head(self.attend(tokens, tokens, tokens, need_weights=False)[0].mean(1))
"""


def test_a_network_it_cannot_cut_is_said(cnnvis: Cli, tmp_path: Path) -> None:
    (tmp_path / "attention.py").write_text(ATTENTION)
    ran = cnnvis("occlude", "model=attention:Attention", "--trust-code", "image=sample:brick", "score=false")
    assert ran.code == 0, ran.err
    assert "evaluated the plain way, since attention:Attention uses" in ran.err
    assert "multi_head" in ran.sidecar["scores"]["reason"]


def test_several_pictures_and_any_fill(cnnvis: Cli) -> None:
    words = ["occlude", "image=sample:brick,sample:grass", "window=32", "stride=32", "score=false", "target=channel:conv3_1:5"]
    for fill in ("blur", "noise", "red", "1,0,0.5"):
        ran = cnnvis(*words, f"fill={fill}", f"name={fill.strip('#').replace(',', '-')}")
        assert ran.code == 0, ran.err
        assert [file.suffix for file in ran.files] == [".png", ".png"]
        assert [row["picture"] for row in ran.sidecar["scores"]["pictures"]] == ["brick", "grass"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["window=97"], "window 97"),
        (["window=0"], "window"),
        (["stride=0"], "stride"),
        (["window=8", "stride=9"], "stride 9"),
        (["fill=blurr"], "'blur'"),
        (["fill=1,2,3"], "fill=1,2,3"),
        (["evaluation=fast"], "evaluation"),
        (["target=nothing"], "no class"),
        (["image=nowhere"], "no picture"),
        (["check=-1"], "check"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(words: list[str], says: str, cnnvis: Cli) -> None:
    ran = cnnvis("occlude", *words)
    assert ran.code == 2
    assert says in ran.err
    assert len(ran.err.strip().splitlines()) == 1
