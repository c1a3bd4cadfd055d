"""`cnnvis train` as a user runs it, and `style stylizer=` with what came out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from cnnvis_cli.config.load import build_config
from cnnvis_cli.config.train import TrainConfig
from cnnvis_cli.errors import ConfigError
from cnnvis_cli.jobs.progress import Interrupt
from cnnvis_cli.networks.load import load_network
from cnnvis_cli.networks.spec import NetworkSpec
from cnnvis_cli.pictures.find import find_pictures
from tests.conftest import Ran
from tests.support.noise import noise_folder
from tests.support.words import over

Run = Callable[..., Ran]
TINY = ("width=4", "blocks=1", "size=32", "batch=2", "judged=2", "compare=0", "-q")
QUICK = (
    "width=8",
    "warm=5",
    "rate=0.01",
    "style_layers=relu1_1,relu2_1",
    "content_layers=relu2_1",
    "steps=70",
    "strength=0.8",
    "even=0",
    "zoom=0.5,1",
)
CATS = ("images=sample:chelsea,sample:coffee,sample:astronaut", "held_out=sample:rocket")


def weights(name: str) -> Path:
    return Path(f"runs/train/{name}.safetensors")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def card(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_a_stylizer_learns_its_style_and_not_another(cnnvis: Run) -> None:
    for style in ("brick", "starry_night"):
        ran = cnnvis("train", *over(TINY, *CATS, *QUICK), f"style=sample:{style}", f"name={style}")
        assert ran.code == 0, ran.err
        scores = ran.sidecar["scores"]
        assert scores["loss"] < 0.9 * min(scores["loss_of_copy"], scores["loss_of_grey"])
        assert scores["style_distance"] < scores["style_distance_of_content"]
    for style, other in (("brick", "starry_night"), ("starry_night", "brick")):
        found = {}
        for name in (style, other):
            ran = cnnvis("style", f"stylizer={weights(name)}", "content=sample:rocket", "size=96", f"name={style}_{name}", "-q")
            assert ran.code == 0, ran.err
            found[name] = ran.files[0]
        distance = {}
        for name, file in found.items():
            plain = ("size=96", "strength=0", f"name=judged_{style}_{name}", "-q")
            ran = cnnvis("style", f"stylizer={weights(style)}", f"content={file}", *plain)
            distance[name] = ran.sidecar["scores"]["style_distance"]
        assert distance[style] < distance[other]


STYLES = ("style=sample:brick,sample:grass", "compare=2")
PAINTER = ("kind=painter", "paintings=sample:starry_night", "autoencoder=0.3")


@pytest.mark.parametrize(("kind", "at"), [(STYLES, 1), (STYLES, 7), (PAINTER, 7)])
def test_an_interrupted_training_goes_on_to_the_same_bytes(
    cnnvis: Run, monkeypatch: pytest.MonkeyPatch, kind: tuple[str, ...], at: int
) -> None:
    settings = over((*TINY, *CATS), *kind, "steps=10")
    assert cnnvis("train", *settings, "name=whole").code == 0
    calls = 0

    def stop(self: Interrupt) -> bool:
        nonlocal calls
        calls += 1
        return calls == at + 1

    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "__call__", stop)
        ran = cnnvis("train", *settings, "name=rest")
    assert ran.code == 130
    assert "goes on from there" in ran.err
    assert not weights("rest").exists()
    assert cnnvis("train", *settings, "name=rest").code == 0
    assert weights("rest").read_bytes() == weights("whole").read_bytes()
    assert not Path("runs/train/rest.state").exists()


def test_a_new_style_leaves_the_old_ones_to_the_bit(cnnvis: Run) -> None:
    assert cnnvis("train", *TINY, *CATS, "style=sample:brick", "steps=5", "name=one").code == 0
    ran = cnnvis("train", *TINY, *CATS, f"start={weights('one')}", "only=style", "style=sample:grass", "steps=5", "name=two")
    assert ran.code == 0, ran.err
    before, after = load_file(weights("one")), load_file(weights("two"))
    for name, value in before.items():
        kept = after[name][: len(value)] if name.endswith(("scale", "shift")) else after[name]
        assert torch.equal(kept.float(), value.float()), name
    assert [style["name"] for style in json.loads(card(weights("two"))["styles"])] == ["brick", "grass"]
    again = (*TINY, *CATS, f"start={weights('two')}", "style=sample:brick", "steps=1")
    assert cnnvis("train", *again, "name=more").code == 0
    assert [style["name"] for style in json.loads(card(weights("more"))["styles"])] == ["brick", "grass"]
    assert "knows sample:brick already" in cnnvis("train", *again, "only=style").err
    assert (after["norm1.scale"][0] != after["norm1.scale"][1]).any()
    shapes = {}
    for file in ("one", "two"):
        ran = cnnvis("style", f"stylizer={weights(file)}", "style=brick", "size=64", f"name={file}", "-q")
        shapes[file] = pixels(ran.files[0])
    assert np.array_equal(shapes["one"], shapes["two"])


def test_a_file_says_what_it_is(cnnvis: Run) -> None:
    assert cnnvis("train", *TINY, *CATS, "style=sample:great_wave", "steps=3", "name=wave").code == 0
    found = card(weights("wave"))
    assert found["kind"] == "stylizer"
    (style,) = json.loads(found["styles"])
    assert style["name"] == "great_wave"
    assert len(style["sha256"]) == 64
    assert len(style["thumbnail"]) > 1000
    assert json.loads(found["encoder"])["model"] == "minivgg"
    assert {"steps", "recipe", "scores", "losses", "licence", "size"} <= set(found)
    assert {path.name for path in Path("runs/train").iterdir()} == {
        *("wave.safetensors", "wave.png", "wave-curve.png", "wave-ripple.png", "wave.json")
    }


def test_styles_are_chosen_mixed_and_masked(cnnvis: Run) -> None:
    train = (*over(TINY, *CATS, *QUICK), "style=sample:brick,sample:starry_night", "name=both")
    assert cnnvis("train", *train).code == 0
    Path("masks").mkdir()
    left = np.zeros((300, 451), np.uint8)
    left[:, :225] = 255
    Image.fromarray(left).save("masks/left.png")
    Image.fromarray(255 - left).save("masks/right.png")

    numbers = itertools.count()

    def painted(*settings: str) -> np.ndarray:
        ran = cnnvis("style", f"stylizer={weights('both')}", "size=96", f"name={next(numbers)}", "-q", *settings)
        assert ran.code == 0, ran.err
        return pixels(ran.files[0]).astype(float)

    first, second = painted("style=brick"), painted("style=starry_night")
    assert np.array_equal(first, painted())
    assert np.array_equal(first, painted("style=brick,starry_night", "style_shares=1,0"))
    assert np.abs(first - second).mean() > 1
    masked = painted("style=brick,starry_night", "masks=masks/left.png,masks/right.png")
    assert np.abs(masked - first)[:, :40].max() <= 1
    assert np.abs(masked - second)[:, -40:].max() <= 1
    content = painted("strength=0")
    assert np.abs(painted("strength=0.1") - content).mean() < np.abs(first - content).mean()


def test_a_folder_is_painted_and_what_cannot_be_read_is_said(cnnvis: Run) -> None:
    assert cnnvis("train", *TINY, *CATS, "style=sample:brick", "steps=2", "name=brick").code == 0
    Path("photos").mkdir()
    for number in range(2):
        Image.fromarray(np.full((40, 50, 3), 90 * number, np.uint8)).save(f"photos/{number}.png")
    Path("photos/bad.png").write_bytes(b"no picture")
    ran = cnnvis("style", f"stylizer={weights('brick')}", "content=photos", "-q")
    assert ran.code == 1
    assert "bad.png" in ran.err
    assert [path.name for path in ran.files] == ["brick_photos-0.png", "brick_photos-1.png"]


def test_the_optimizer_goes_on_from_the_pass(cnnvis: Run) -> None:
    assert cnnvis("train", *TINY, *CATS, "style=sample:brick", "steps=10", "name=brick").code == 0
    ran = cnnvis("style", f"stylizer={weights('brick')}", "start=stylizer", "size=96", "steps=3", "-q")
    assert ran.code == 0, ran.err
    assert ran.sidecar["plan"]["sizes"] == [96]
    assert ran.sidecar["scores"]["style_distance"] < ran.sidecar["scores"]["style_distance_of_content"]


def test_weights_of_pytorch_examples_are_read_by_their_keys(cnnvis: Run) -> None:
    from cnnvis_cli.engine.generators.fast_neural_style import FastNeuralStyle

    state = FastNeuralStyle().state_dict()
    state["in1.running_mean"] = torch.zeros(32)  # as the oldest files have them
    torch.save(state, "mosaic.pth")
    ran = cnnvis("style", "stylizer=mosaic.pth", "size=64")
    assert ran.code == 0, ran.err
    assert "1 running statistics" in ran.err
    with Image.open(ran.files[0]) as picture:
        assert picture.size == (64, 43)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["images=empty"], "holds no pictures"),
        (["style=small.png"], "it is used with a long side"),
        (["style=sample:grass", "start=nothing.safetensors"], "no stylizer"),
        (["kind=network", "start=minivgg"], "folders of labelled pictures"),
        (["kind=network", "images=things", "start=minivgg"], "is no class of the network"),
        (["kind=network", "images=things"], "name what shall learn"),
        (["attack=fast"], "attack has no effect with kind=stylizer"),
        (["kind=network", "style=sample:grass", "tv=3"], "tv has no effect with kind=network"),
        (["only=style"], "start="),
        (["size=64,96", "size_shares=1"], "2 sizes want as many shares"),
        (["budget=soon"], "a time is a number"),
        (["style=sample:grass,sample:grass"], "the same name"),
        (["style_layers=relu9_1"], "no layer"),
    ],
)
def test_bad_input_is_one_line(cnnvis: Run, settings: list[str], said: str) -> None:
    Path("empty").mkdir()
    Path("things").mkdir()
    for place in ("small.png", "things/small.png"):
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(place)
    ran = cnnvis("train", *settings, "-q")
    assert ran.code == 2
    assert said in ran.err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["stylizer=nothing.safetensors"], "no stylizer 'nothing.safetensors'"),
        (["stylizer=lenet.safetensors"], "holds"),
        (["stylizer=brick.safetensors", "style=bricks"], "Did you mean 'brick'"),
        (["stylizer=brick.safetensors", "model=lenet"], "was trained with minivgg"),
        (["stylizer=brick.safetensors", "steps=3"], "steps has no effect"),
        (["stylizer=brick.safetensors", "colors=histogram"], "colors=histogram"),
        (["start=stylizer"], "start=stylizer: name it"),
    ],
)
def test_a_wrong_stylizer_is_said(cnnvis: Run, settings: list[str], said: str) -> None:
    from cnnvis_cli.files.bundled import assets_folder

    if "brick" in settings[0]:
        assert cnnvis("train", *TINY, *CATS, "style=sample:brick", "steps=1", "name=brick").code == 0
        Path("brick.safetensors").write_bytes(weights("brick").read_bytes())
    Path("lenet.safetensors").write_bytes((assets_folder() / "lenet.safetensors").read_bytes())
    ran = cnnvis("style", *settings, "-q")
    assert ran.code == 2
    assert said in ran.err


def test_kinds_have_their_own_defaults() -> None:
    assert build_config(TrainConfig, {"kind": "network"}).batch == 64
    assert build_config(TrainConfig, {}).batch == 4
    resolved = build_config(TrainConfig, {"kind": "network", "attack": "fast"})
    assert build_config(TrainConfig, resolved.model_dump()) == resolved
    with pytest.raises(ConfigError, match="attack_steps has no effect"):
        build_config(TrainConfig, {"kind": "network", "attack": "fast", "attack_steps": "2"})
    stages = build_config(TrainConfig, {"size": [32, 64], "size_shares": [3, 1]})
    assert [stages.stage(progress) for progress in (0, 0.7, 0.75, 0.99, 1.0)] == [0, 0, 1, 1, 1]


def labelled_folder(root: Path) -> None:
    """Two classes that differ in hue, seen in noise."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 10)):
        for index, name in enumerate(("red thing", "blue thing")):
            place = root / split / name.replace(" ", "_")
            place.mkdir(parents=True)
            for number in range(count):
                picture = generator.integers(60, 190, (36, 44, 3))
                picture[..., 2 * index] += 50
                Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(place / f"{number}.png")


NETWORK = ("kind=network", "images=things/train", "test=things/test", "size=32", "batch=16", "judged=8", "jitter=0", "-q")


def test_a_classifier_learns_from_nothing_and_is_judged_on_its_file(cnnvis: Run) -> None:
    labelled_folder(Path("things"))
    ran = cnnvis("train", *NETWORK, "architecture=minivgg", "steps=25", "rate=0.05", "warm=5", "average=0.5")
    assert ran.code == 0, ran.err
    scores = ran.sidecar["scores"]
    assert scores["things_clean"] >= 0.9
    assert scores["things_pictures"] == 20
    assert scores["things_l2_0.333"] <= scores["things_clean"]
    found = card(ran.files[0])
    assert json.loads(found["classes"]) == ["blue thing", "red thing"]
    assert json.loads(found["scores"])["things_clean"] == scores["things_clean"]
    assert not any("bn" in name for name in load_file(ran.files[0]))  # folded


def test_a_network_goes_on_from_a_file_and_learns_from_attacks(cnnvis: Run) -> None:
    labelled_folder(Path("things"))
    assert cnnvis("train", *NETWORK, "architecture=minivgg", "steps=3", "name=first").code == 0
    more = ("attack=pgd", "attack_steps=2", "epsilon=0.5", "probe=4", "steps=7", "warm=1")
    ran = cnnvis("train", *NETWORK, f"start={weights('first')}", *more, "name=second")
    assert ran.code == 0, ran.err
    assert len(ran.sidecar["probes"]) + len(ran.sidecar["back"]) == 2  # three steps a pass, seven steps
    before, after = load_file(weights("first")), load_file(weights("second"))
    assert not torch.equal(before["conv1_1.weight"], after["conv1_1.weight"])


def test_torchvision_architectures_learn_too(cnnvis: Run) -> None:
    labelled_folder(Path("things"))
    ran = cnnvis("train", *over(NETWORK, "architecture=squeezenet1_1", "steps=2", "size=64", "test="))
    assert ran.code == 0, ran.err
    assert card(ran.files[0])["architecture"] == "squeezenet1_1"


@pytest.mark.parametrize("architecture", ["minivgg", "mobilenet_v2"])
def test_what_was_trained_is_a_network_like_any_other(cnnvis: Run, architecture: str) -> None:
    """With BatchNorm or without: its file gives the model of its own name its weights, class names and preprocessing, and
    training goes on from it."""
    labelled_folder(Path("things"))
    settings = over(NETWORK, f"architecture={architecture}", "steps=3", "size=64", "test=", "name=own")
    assert cnnvis("train", *settings).code == 0
    said = card(weights("own"))
    network, _ = load_network(NetworkSpec(architecture, str(weights("own"))), torch.device("cpu"))
    assert [network.class_name(n) for n in range(network.class_count)] == json.loads(said["classes"])
    assert network.size == 64
    assert network.preprocessing.mean == pytest.approx(json.loads(said["mean"]))
    ran = cnnvis("saliency", f"model={architecture}", f"weights={weights('own')}", "image=sample:coffee", "-q")
    assert ran.code == 0, ran.err
    more = over(settings, f"start={weights('own')}", "name=more")
    ran = cnnvis("train", *(word for word in more if not word.startswith("architecture=")))
    assert ran.code == 0, ran.err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio leaves its pipes to the collector
def test_a_film_is_painted_and_scored_for_flicker(cnnvis: Run) -> None:
    pytest.importorskip("imageio_ffmpeg")
    from cnnvis_cli.pictures.read import read, resize, sample
    from cnnvis_cli.pictures.write import to_image, write_video

    assert cnnvis("train", *TINY, *CATS, "style=sample:brick", "steps=2", "name=brick").code == 0
    still = resize(read(sample("coffee")), 48, 64)
    write_video(Path("film.mp4"), [to_image(still.roll(shift, 3)) for shift in range(4)], 8)
    ran = cnnvis("style", f"stylizer={weights('brick')}", "content=film.mp4", "-q")
    assert ran.code == 0, ran.err
    assert ran.files[0].suffix == ".mp4"
    assert ran.sidecar["scores"]["frames"] == 4
    assert {"flicker_shift", "flicker_noise"} <= set(ran.sidecar["scores"])


@pytest.mark.parametrize("critic", ["features", "pixels"])
def test_a_painter_is_a_stylizer_to_whoever_uses_it(cnnvis: Run, critic: str) -> None:
    ran = cnnvis("train", *over(TINY, *CATS, *PAINTER), f"critic={critic}", "steps=30", "name=vincent")
    assert ran.code == 0, ran.err
    assert {"pixels", "critic", "lattice", "content", "transformed"} <= ran.sidecar["losses"].keys()
    scores = ran.sidecar["scores"]
    assert {"style_distance", "recognised_starry_night", "recognised_starry_night_before", "checkerboard"} <= scores.keys()
    assert scores["photograph_recognised_by_chance"] < 0.05
    made = cnnvis("style", "content=sample:coffee", f"stylizer={weights('vincent')}", "size=64")
    assert made.code == 0, made.err
    assert pixels(made.files[0]).std() > 1
    refused = cnnvis("train", "kind=painter", "style=sample:brick", *TINY)
    assert refused.code == 2
    assert "style has no effect" in refused.err


def test_a_painter_goes_on_from_a_file_with_other_styles(cnnvis: Run) -> None:
    settings = over(TINY, *CATS, *PAINTER)
    assert cnnvis("train", *settings, "steps=4", "name=one").code == 0
    new = over(settings, "paintings=sample:brick")
    ran = cnnvis("train", *new, "steps=8", "warm=0", "rate=0.01", f"start={weights('one')}", "name=two")
    assert ran.code == 0, ran.err
    styles = json.loads(card(weights("two"))["styles"])
    assert [style["name"] for style in styles] == ["starry_night", "brick"]
    before, after = load_file(weights("one"))["norm1.scale"], load_file(weights("two"))["norm1.scale"]
    assert torch.equal(before[0], after[0])
    assert not torch.equal(after[0], after[1])
    assert "recognised_brick" in ran.sidecar["scores"]
    assert "recognised_starry_night" not in ran.sidecar["scores"]
    refused = cnnvis("train", *over(new, "width=8"), "steps=4", f"start={weights('one')}", "name=three")
    assert refused.code == 2
    assert "has width=4" in refused.err


def test_paintings_that_cannot_be_used_are_said_and_others_under_a_state_are_refused(
    cnnvis: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = noise_folder(tmp_path / "artist", 2, 160, 120)
    Image.new("RGB", (9, 7)).save(folder / "tiny.png")
    (folder / "broken.png").write_text("x")
    settings = over(TINY, *CATS, "kind=painter", f"paintings={folder}", "steps=10", "name=artist")
    calls = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "__call__", lambda self: next(calls) == 5)
        assert cnnvis("train", *settings).code == 130
    kept = (folder / "1.png").read_bytes()
    Image.new("RGB", (160, 120), "red").save(folder / "1.png")
    refused = cnnvis("train", *settings)
    assert refused.code == 2
    assert "computed with another picture" in refused.err
    (folder / "1.png").write_bytes(kept)
    ran = cnnvis("train", *settings)
    assert ran.code == 1
    assert {Path(path).name for path in ran.sidecar["skipped"]} == {"tiny.png", "broken.png"}
    again = cnnvis("train", *settings)
    assert "kept" in again.err or again.files == ran.files
    assert "made anew" not in again.err


def test_a_result_learned_from_other_photographs_is_made_anew(cnnvis: Run, tmp_path: Path) -> None:
    folder = noise_folder(tmp_path / "photographs", 3, 64, 64)
    settings = over(TINY, f"images={folder}", "style=sample:brick", "steps=2", "name=kept", "judged=1")
    assert cnnvis("train", *settings).code == 0
    before = weights("kept").stat().st_mtime_ns
    cnnvis("train", *settings)
    assert weights("kept").stat().st_mtime_ns == before
    Image.new("RGB", (64, 64), "red").save(folder / "1.png")
    ran = cnnvis("train", *settings)
    assert ran.code == 0
    assert weights("kept").stat().st_mtime_ns != before


def test_a_photograph_is_no_rival_of_itself_and_a_link_to_nothing_is_left_out(cnnvis: Run, tmp_path: Path) -> None:
    held = find_pictures("sample:caltech")[0].path
    folder = noise_folder(tmp_path / "photographs", 2)
    (folder / "nowhere.jpg").symlink_to("/nowhere.jpg")
    settings = over(TINY, f"images={folder}", f"held_out={held}", "style=sample:brick", "steps=2", "name=own")
    ran = cnnvis("train", *settings)
    assert ran.code in (0, 1), ran.err
    scores = ran.sidecar["scores"]
    assert scores["likeness"] != scores["likeness_of_the_nearest_other"]
    again = cnnvis("train", "-c", "runs/train/own.json", "--out", "again")
    assert again.code in (0, 1), again.err


def test_a_painter_of_which_nothing_is_asked_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is asked"):
        build_config(TrainConfig, {"kind": "painter", "adversarial": 0, "content": 0, "transformed": 0, "even": 0})
