"""`cnnvis fool` as a user runs it: what is judged is the saved file."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.files.bundled import configs_folder
from cnnvis_cli.jobs.progress import Interrupt, Task
from cnnvis_cli.pictures.read import PictureFile, open_rgb, read
from cnnvis_cli.pictures.read import sample as find_sample
from tests.conftest import Ran

Run = Callable[..., Ran]
BIKE = "image=sample:motorcycle"


def load(path: Path) -> Tensor:
    return read(PictureFile("x", path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of the bundled network's size, two of them of the same name."""
    place = tmp_path / "photos"
    for number, (name, sample) in enumerate({"a/one": "motorcycle", "b/one": "flower", "b/two": "chelsea"}.items()):
        picture = open_rgb(find_sample(sample)).resize((130 + number, 110))
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{name}.png")
    return place


@pytest.mark.parametrize("attack", ["autoattack", "pgd", "square", "carlini-wagner"])
def test_progress_never_passes_its_end(cnnvis: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, attack: str) -> None:
    """Of several tries each counts its steps from 1: what is told is their sum, and at most what was announced."""
    told: list[tuple[int, int]] = []

    class Bar(Task):
        def __init__(self, label: str, total: int) -> None:
            self.total = total

        def advance(self, done: int, note: str = "", total: int | None = None) -> None:
            told.append((done, total or self.total))

    monkeypatch.setattr("cnnvis_cli.jobs.progress._Plain", Bar)
    few = {
        "square": ["queries=4"],
        "autoattack": ["steps=3", "aims=2", "queries=5"],
        "carlini-wagner": ["steps=3", "searches=2"],
    }
    ran = cnnvis("fool", f"image={folder}", f"attack={attack}", *few.get(attack, ["steps=3", "norm=l2"]), "batch=8")
    assert ran.code == 0, ran.err
    done = [step for step, _ in told]
    assert done == sorted(done)
    assert len(set(done)) > 1
    assert all(step <= total for step, total in told)


def test_the_saved_picture_is_judged(cnnvis: Run, minivgg: Network) -> None:
    ran = cnnvis("fool", BIKE, "target=car", "epsilon=16/255", "steps=20", "confidence=0.4")
    assert ran.code == 0, ran.err
    name = "minivgg_motorcycle_pgd_car_epsilon-16-255_steps-20_confidence-0.4"
    assert [path.name.removeprefix(name) for path in ran.files] == [
        ".png", "-original.png", "-change.png", "-compare.png",
    ]  # fmt: skip
    saved, original, change = (load(path) for path in ran.files[:3])
    scores = ran.sidecar["scores"]
    with torch.no_grad():
        answer = minivgg(saved).softmax(1)[0]
    assert (answer.argmax().item() == minivgg.class_index("car")) == scores["fooled"]
    assert scores["probability"] == pytest.approx(answer.max().item(), rel=1e-4)
    assert scores["answer_before"] == "motorbike"
    assert ((saved - original).abs().max() * 255).round().item() == scores["linf_levels"] <= 16
    assert scores["l2"] == pytest.approx((saved - original).norm().item(), rel=1e-4)
    assert change.mean() == pytest.approx(0.5, abs=0.05), "the change is shown around grey"
    again = cnnvis("fool", "-c", next(ran.files[0].parent.glob("*.json")), "--out", "again")
    assert again.files[0].read_bytes() == ran.files[0].read_bytes()


def test_a_folder_gives_a_table_a_curve_and_a_transfer_matrix(cnnvis: Run, folder: Path) -> None:
    ran = cnnvis(
        "fool", f"image={folder}", "attack=ifgsm", "epsilon=8/255", "steps=6", "confidence=0", "check=5", "batch=2", "name=f",
        "budgets=1/255,16/255", "also=lenet",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    names = {path.name.removeprefix("f-") for path in ran.files}
    assert {"one.png", "one-2.png", "two.png", "compare.png", "table.csv", "curve.png", "transfer.png"} <= names
    assert {path.parent.name for path in ran.files if path.name.startswith(("one", "two"))} == {"f"}
    table = next(path for path in ran.files if path.name.endswith("table.csv"))
    rows = list(csv.DictReader(table.open()))
    assert [row["picture"] for row in rows] == ["one", "one-2", "two"]
    assert {"fooled", "queries", "steps", "l0", "l2", "linf", "psnr", "ssim"} <= rows[0].keys()
    assert all(int(row["steps"]) <= 6 and int(row["linf_levels"]) <= 8 for row in rows)
    sidecar = ran.sidecar
    assert 0 < sidecar["scores"]["fooled"] <= sidecar["scores"]["fooled_before_saving"] <= 3
    assert 0 <= sidecar["scores"]["robust_accuracy_unrounded"] <= sidecar["scores"]["robust_accuracy"]
    shares = sidecar["curve"]["accuracy"]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1
    assert len(sidecar["curve"]["others"]["lenet"]) == len(shares)
    matrix = sidecar["transfer"]["changed"]
    assert len(matrix) == len(matrix[0]) == 2
    assert matrix[0][0] == pytest.approx(sum(row["fooled"] == "True" for row in rows) / 3)


def test_a_line_of_the_curve_for_each_network(cnnvis: Run) -> None:
    """Each network is attacked itself, on the same pictures and classes: its line is what it gets alone."""
    pictures = ",".join(f"sample:caltech/{name}" for name in ("elephant-0004", "dalmatian-0013", "ketch-0008", "ketch-0023"))
    settings = ("fool", f"image={pictures}", "label=file", "norm=l2", "epsilon=1", "steps=5", "budgets=0,0.5,1", "check=0")
    both = cnnvis(*settings, "model=minivgg_robust", "also=minivgg", "name=both").sidecar["curve"]
    assert both["others"]["minivgg"] == cnnvis(*settings, "model=minivgg", "name=alone").sidecar["curve"]["accuracy"]
    assert both["accuracy"][-1] > both["others"]["minivgg"][-1], "what learned from attacks withstands them"


@pytest.mark.parametrize(
    ("attack", "extra"),
    [
        ("ascent", ["steps=5"]),
        ("fgsm", ["norm=l2", "epsilon=1.5"]),
        ("momentum", ["steps=3", "epsilon=16/255"]),
        ("deepfool", ["norm=l2", "steps=8", "candidates=4"]),
        ("lbfgs", ["steps=3", "searches=2"]),
        ("carlini-wagner", ["steps=5", "searches=2", "constant=10"]),
        ("square", ["queries=5", "norm=l2"]),
        ("universal", ["steps=3"]),
        ("autoattack", ["norm=l2", "epsilon=1", "steps=3", "aims=1", "queries=3"]),
    ],
)
def test_every_attack_saves_an_honest_result(cnnvis: Run, minivgg: Network, attack: str, extra: list[str]) -> None:
    ran = cnnvis("fool", BIKE, f"attack={attack}", "check=0", "name=f", *extra)
    assert ran.code == 0, ran.err
    picture = next(path for path in ran.files if path.name == "f.png")
    with torch.no_grad():
        fooled = minivgg(load(picture)).argmax().item() != minivgg.class_index("motorbike")
    assert ran.sidecar["scores"]["fooled"] == fooled
    assert ("is no success" in ran.err) != fooled


def test_without_epsilon_the_least_budget_that_fools_is_found(cnnvis: Run, folder: Path) -> None:
    settings = ("fool", f"image={folder}", "attack=ifgsm", "steps=5", "confidence=0", "check=0")
    rows = cnnvis(*settings, "name=least").sidecar["rows"]
    levels = [round(255 * row["epsilon"]) for row in rows]
    assert all(row["fooled"] and row["linf_levels"] <= level for row, level in zip(rows, levels, strict=True))
    assert set(levels) <= {1, 2, 3, 4, 6, 8}
    below = max(levels)
    assert below > 1, "a picture that needs more than the least"
    less = {8: 6, 6: 4, 4: 3, 3: 2, 2: 1}[below]
    others = cnnvis(*settings, f"epsilon={less}/255", "name=less").sidecar["rows"]
    assert [row["fooled"] for row in others] == [level <= less for level in levels]


def test_robust_accuracy_of_a_folder(cnnvis: Run, folder: Path) -> None:
    ran = cnnvis("fool", f"image={folder}", "attack=autoattack", "norm=l2", "epsilon=0.1", "steps=5", "aims=2", "queries=5")
    assert ran.code == 0, ran.err
    scores, rows = ran.sidecar["scores"], ran.sidecar["rows"]
    assert scores["robust_accuracy"] == pytest.approx(sum(not row["fooled"] for row in rows) / len(rows))
    assert all((row["by"] in ("apgd-ce", "apgd-t", "fab-t", "square")) == row["fooled"] for row in rows)
    assert all(row["l2"] <= 0.1 + 1e-6 for row in rows)
    refused = cnnvis("fool", BIKE, "attack=autoattack", "target=car")
    assert refused.code == 2
    assert "target has no effect" in refused.err


def test_noise_takes_any_class(cnnvis: Run) -> None:
    ran = cnnvis("fool", "image=noise", "target=least-likely", "epsilon=0.2", "steps=20", "confidence=0.3", "--seed", "3")
    assert ran.code == 0, ran.err
    scores = ran.sidecar["scores"]
    assert scores["fooled"]
    assert scores["answer"] == scores["target"]


def test_labels_may_be_folders_and_wrong_ones_are_told(cnnvis: Run, folder: Path) -> None:
    (folder / "a").rename(folder / "motorbike")
    (folder / "b").rename(folder / "sunflower")
    ran = cnnvis("fool", f"image={folder}", "label=folder", "attack=fgsm", "check=0")
    assert ran.code == 0, ran.err
    assert "two: the network is wrong before any attack" in ran.err
    assert ran.sidecar["warnings"]
    assert ran.sidecar["scores"]["wrong_before"] >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["target=motorbike"], "is the class of motorcycle already"),
        (["target=motorbik"], "Did you mean 'motorbike'"),
        (["label=nothing at all"], "knows no class"),
        (["epsilon=0"], "greater than 0"),
        (["epsilon=-1/255"], "greater than 0"),
        (["epsilon=8"], "write 8/255 for levels"),
        (["epsilon=1/300"], "less than one level"),
        (["epsilon=a/b"], "epsilon"),
        (["attack=pdg"], "Did you mean 'pgd'"),
        (["attack=deepfool", "target=car"], "takes no target"),
        (["attack=carlini-wagner", "epsilon=4/255"], "norm=l2"),
        (["name=x.jpg"], "PNG only"),
        (["--out", "x.jpg"], "saved as PNG"),
        (["also=nonsense"], "no model 'nonsense'"),
        (["also=squeezenet1_0@missing.pth"], "no weights file"),
        (["image=sample:motorcicle"], "sample"),
        (["steps=0"], "steps"),
        (["confidence=1"], "confidence"),
    ],
)
def test_mistakes_end_in_one_clear_line(cnnvis: Run, arguments: list[str], message: str) -> None:
    ran = cnnvis("fool", *([] if arguments[0].startswith("image") else [BIKE]), *arguments)
    assert ran.code == 2
    assert message in ran.err
    assert not ran.out
    assert not list(Path().glob("**/*.png"))


@pytest.mark.parametrize("name", sorted(path.stem for path in (configs_folder() / "fool").glob("*.yaml")))
def test_the_bundled_configs_run(cnnvis: Run, name: str) -> None:
    quick = ["check=0", "batch=16", "queries=5" if name == "blackbox" else "steps=2"]
    ran = cnnvis("fool", "-c", name, *quick)
    assert ran.code == 0, ran.err
    assert all(Image.open(path).size[0] > 0 for path in ran.files if path.suffix == ".png")


def test_an_interrupted_folder_goes_on_where_it_was(cnnvis: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["fool", f"image={folder}", "attack=square", "epsilon=1/255", "queries=12", "batch=1", "check=0"]
    whole = cnnvis(*arguments, "--out", "whole")
    assert whole.code == 0, whole.err
    asked = 0

    def ctrl_c(interrupt: Interrupt) -> bool:
        nonlocal asked
        asked += 1
        return asked > 15  # in the middle of the second picture

    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "__call__", ctrl_c)
        cut = cnnvis(*arguments, "--out", "cut")
    assert cut.code == 130
    assert "after 1 of 3 pictures; the same command goes on from there" in cut.err
    assert not list(Path("cut").glob("*.json"))
    resumed = cnnvis(*arguments, "--out", "cut")
    assert resumed.code == 0, resumed.err
    assert not list(Path("cut").glob("*.state"))
    for path in whole.files:
        if path.suffix == ".png":
            assert torch.equal(load(path), load(Path("cut", *path.parts[1:])))
