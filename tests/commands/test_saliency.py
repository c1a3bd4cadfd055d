"""`cnnvis saliency` as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from cnnvis_cli.config.saliency import Method
from tests.conftest import Ran

Cli = Callable[..., Ran]


def write_picture(path: Path, size: tuple[int, int] = (83, 61), seed: int = 0) -> Path:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_gives_a_map_in_the_pictures_size(method: str, cnnvis: Cli, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "odd.png")
    few = {"smoothgrad": ["samples=2"], "integrated_gradients": ["steps=2"]}.get(method, [])
    ran = cnnvis("saliency", f"image={picture}", f"method={method}", *few, "size=48", "raw=true", "score=false")
    assert ran.code == 0, ran.err
    figure, heat, overlay, *colors, raw = ran.files
    # Methods whose gradient is a picture of its own show it at the resolution that the network saw, by a whole factor.
    assert len(colors) == (method in ("gradient", "guided_backprop", "guided_grad_cam"))
    for picture in colors:
        values = np.asarray(Image.open(picture))
        across, down = (int(side) for side in ran.sidecar["scores"]["seen_at"].removesuffix(" px").split(" x "))
        assert values.shape[0] / down == values.shape[1] / across == values.shape[0] // down > 1
        assert (values.max(2) - values.min(2)).max() > 50  # in colour
        assert abs(float(np.median(values)) - 128) < 4  # on grey
    assert size_of(heat) == size_of(overlay) == (83, 61)
    values = np.load(raw)
    assert values.shape == (61, 83)
    assert np.isfinite(values).all()
    assert np.abs(values).max() > 0
    assert size_of(figure)[0] > 3 * 300
    assert 0 <= ran.sidecar["scores"]["value"] <= 1


def test_scores_mask_and_sanity_check_stand_in_the_sidecar(cnnvis: Cli) -> None:
    ran = cnnvis("saliency", "method=grad_cam", "segment=true", "sanity=true", "target=channel:conv4_1:3", "size=48")
    assert ran.code == 0, ran.err
    scores = ran.sidecar["scores"]
    rivals = {f"{name}_{kind}_auc" for name in ("shifted", "mirrored", "centre") for kind in ("deletion", "insertion")}
    assert {"deletion_auc", "insertion_auc", "beats_in_insertion", "beats_in_deletion"} | rivals <= scores.keys()
    assert set(scores["rank_correlation_when_randomized"]) == {"last_layer", "quarter", "half", "three_quarters", "all"}
    assert any(file.name.endswith("-sanity.png") for file in ran.files)
    assert 0 <= scores["object_share"] < 1
    mask = np.asarray(Image.open(next(file for file in ran.files if "mask" in file.name)))
    assert set(np.unique(mask)) <= {0, 255}


def test_many_pictures_give_a_sheet_and_mean_maps(cnnvis: Cli, tmp_path: Path) -> None:
    for number in range(3):
        write_picture(tmp_path / f"p{number}.png", (50 + 7 * number, 64), number)
    ran = cnnvis("saliency", f"image={tmp_path}", "method=gradient", "target=church", "size=32", "score=false")
    assert ran.code == 0, ran.err
    sheet, means = ran.files
    assert means.name.endswith("-means.png")
    assert [row["picture"] for row in ran.sidecar["scores"]["pictures"]] == ["p0", "p1", "p2"]
    assert len(ran.sidecar["inputs"]) == 3
    assert sheet.stat().st_size > 5000


def test_a_network_of_fixed_size_gets_the_whole_picture_or_the_centre_square(cnnvis: Cli, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "wide.png", (90, 41))
    ran = cnnvis("saliency", "model=lenet", f"image={picture}", "method=gradient", "score=false")
    assert ran.code == 0, ran.err
    assert size_of(ran.files[1]) == size_of(picture)
    assert ran.sidecar["scores"]["seen_at"] == "28 x 28 px"
    ran = cnnvis("saliency", "model=lenet", f"image={picture}", "method=gradient", "score=false", "crop=true", "name=crop")
    assert size_of(ran.files[1]) == (41, 41)
    ran = cnnvis("saliency", "model=lenet", f"image={picture}", "size=64")
    assert ran.code == 2
    assert "28 px only" in ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["method=gradcam"], "'grad_cam'"),
        (["target=motorbik"], "motorbike"),
        (["target=class:1; class:2"], "names 2 objectives"),
        (["target=111"], "out of range"),
        (["layer=conv4_1"], "it belongs to method=grad_cam"),
        (["method=grad_cam", "layer=fc"], "gives a vector"),
        (["method=grad_cam", "layer=conv4_9"], "no layer"),
        (["method=integrated_gradients", "baseline=blurr"], "baseline=blurr"),
        (["image=sample:motorcyle"], "motorcycle"),
        (["image=nowhere"], "no picture"),
        (["image=empty"], "holds no pictures"),
        (["image=cut.png"], "cut.png"),
        (["image=text.png"], "not a picture"),
        (["image=moving.gif"], "3 frames"),
        (["samples=0"], "samples"),
        (["size=7"], "size"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(words: list[str], says: str, cnnvis: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    whole = write_picture(tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 100, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    ran = cnnvis("saliency", *words)
    assert ran.code == 2
    assert says in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("runs/**/*.png"))


@pytest.mark.parametrize("mode", ["P", "CMYK", "RGBA", "L", "I;16"])
def test_pictures_of_every_kind_are_read(mode: str, cnnvis: Cli, tmp_path: Path) -> None:
    picture = Image.open(write_picture(tmp_path / "rgb.png"))
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    if mode == "I;16":
        Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(path)
    else:
        picture.convert(mode).save(path)
    ran = cnnvis("saliency", f"image={path}", "method=gradient", "size=32", "score=false")
    assert ran.code == 0, ran.err


def test_means_are_by_folder_and_tell_how_much_lies_off_the_object(cnnvis: Cli) -> None:
    """Two classes asked about one and the same class: the means are of the folders, and the boxes are where maps are high."""
    which = "image=sample:caltech/soccer_ball,sample:caltech/airplane"
    ran = cnnvis("saliency", which, "method=gradient", "target=starfish", "size=32", "score=false")
    assert ran.code == 0, ran.err
    means = ran.sidecar["scores"]["means"]
    assert set(means) == {"soccer_ball", "airplane"}
    for said in means.values():
        assert said["pictures"] == 8
        assert 0 < said["outside_box"] < said["outside_box_area"] < 1
    rows = ran.sidecar["scores"]["pictures"]
    airplanes = [row["outside_box"] for row in rows if row["picture"].startswith("airplane")]
    assert means["airplane"]["outside_box"] == pytest.approx(np.mean(airplanes), rel=1e-4)


def test_no_object_is_cut_out_of_a_diffuse_map(cnnvis: Cli) -> None:
    ran = cnnvis("saliency", "weights=random", "method=grad_cam", "segment=true", "score=false")
    assert ran.code == 0, ran.err
    assert "no object is cut out" in ran.err
    assert ran.sidecar["scores"]["object_share"] is None
    assert ran.sidecar["scores"]["map_concentration"] < 0.3
    assert not any("mask" in file.name for file in ran.files)


def test_methods_beside_each_other_have_the_scores_they_have_alone(cnnvis: Callable[..., Ran]) -> None:
    settings = ("saliency", "image=sample:chelsea", "smooth=0")
    ran = cnnvis(*settings, "method=gradient", "beside=grad_cam,gradient_times_input", "name=together")
    assert ran.code == 0, ran.err
    methods = ran.sidecar["methods"]
    assert list(methods) == ["gradient", "grad_cam", "gradient_times_input"]
    alone = cnnvis(*settings, "method=grad_cam", "name=alone").sidecar["scores"]
    assert methods["grad_cam"]["insertion_auc"] == pytest.approx(alone["insertion_auc"], abs=1e-6)
    assert methods["gradient"]["insertion_auc"] == pytest.approx(ran.sidecar["scores"]["insertion_auc"], abs=1e-6)
    with Image.open("runs/saliency/together-methods.png") as figure:
        assert figure.width > 4 * 300, "the picture and three maps"
    assert {"shifted_insertion_auc", "mirrored_deletion_auc"} < methods["grad_cam"].keys(), "its rivals"
    few = cnnvis(*settings, "method=gradient", "beside=smoothgrad", "samples=2", "score=false")
    assert few.code == 0, "a setting of a method that is only beside"
    assert "it belongs to method=smoothgrad" in cnnvis(*settings, "method=gradient", "beside=grad_cam", "samples=2").err
    many = cnnvis("saliency", "image=sample:chelsea,sample:coffee", "beside=grad_cam")
    assert many.code == 2
    assert "compares methods on one picture" in many.err
