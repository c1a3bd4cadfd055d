"""`cnnvis evolve` as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnvis_cli.config.evolve import EvolveConfig
from cnnvis_cli.config.load import load_config, named_configs
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.jobs.progress import Interrupt
from cnnvis_cli.networks import bundled
from tests.conftest import Ran
from tests.support.server import Server, answers
from tests.support.words import over

Run = Callable[..., Ran]
QUICK = ("generations=3", "children=24")


def folder_of(ran: Ran) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ran.files}


@pytest.mark.parametrize("encoding", ["direct", "cppn", "shapes"])
def test_outputs_and_scores_of_the_saved_files(cnnvis: Run, lenet: Network, encoding: str) -> None:
    ran = cnnvis("evolve", f"encoding={encoding}", *QUICK, "each=true", "frames=three", "name=e")
    assert ran.code == 0, ran.err
    sidecar = ran.sidecar
    elites = {row["class"]: row["probability"] for row in sidecar["elites"]}
    assert list(elites) == list(lenet.classes)
    for name in ("zero", "seven"):
        picture = np.array(Image.open(f"runs/evolve/e-elite-{name}.png").convert("RGB"))
        assert picture.shape == (28, 28, 3)
        with torch.no_grad():
            logits = lenet(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255).double()
        assert logits.softmax(1)[0, lenet.class_index(name)].item() == pytest.approx(elites[name], rel=1e-5)
    history = np.load("runs/evolve/e-history.npy")
    assert history.shape == (4, 10)
    assert (np.diff(history, axis=0) >= 0).all()
    assert np.allclose(history[-1], list(elites.values()), rtol=1e-5)
    rows = list(csv.DictReader(Path("runs/evolve/e-lineage.csv").read_text().splitlines()))
    way = [row for row in rows if row["class"] == "three"]
    assert way[0]["parent"] == "-1"
    assert [row["parent"] for row in way[1:]] == [row["individual"] for row in way[:-1]]
    with Image.open("runs/evolve/e-lineage.gif") as gif:
        assert getattr(gif, "n_frames", 1) <= len(way)


def test_determinism_and_seed(cnnvis: Run) -> None:
    first = folder_of(cnnvis("evolve", *QUICK))
    assert folder_of(cnnvis("evolve", *QUICK, "--out", "again")) == first
    assert folder_of(cnnvis("evolve", *QUICK, "--out", "other", "--seed", "1")) != first


def test_targets_render_goal_and_evolution_strategy(cnnvis: Run) -> None:
    ran = cnnvis(
        "evolve", "targets=one,8", "strategy=evolution_strategy", "elites=3", "generations=5", "children=20", "render=64",
        "goal=0.2", "stop_at_goal=true", "name=e", "titles=false",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert [row["class"] for row in ran.sidecar["elites"]] == ["one", "eight"]
    assert ran.sidecar["stopped"] == ["all classes have reached the goal"]
    with Image.open("runs/evolve/e-large.png") as large:
        assert large.width == 2 * 64 + 3 * 4


def test_killed_and_resumed_equals_uninterrupted(cnnvis: Run, tmp_path: Path) -> None:
    settings = ["evolve", "encoding=direct", "generations=100", "children=20", "save_every=10", "--quiet", "--out"]
    (tmp_path / "slow_box.py").write_text(
        "import os, time, numpy as np\ncalls = 0\n"
        "def judge(images):\n    global calls\n    calls += 1\n"
        "    if os.environ.get('DIE') and calls == 39: os.kill(os.getpid(), 9)\n"  # one call before generation 0
        "    return np.stack([images[:, :5].mean((1, 2, 3)), images[:, 5:].mean((1, 2, 3))], 1) / 255\n"
    )
    settings += ["whole", "evaluator=slow_box:judge", "size=10", "--trust-code"]
    killed = [word if word != "whole" else "killed" for word in settings]
    whole = cnnvis(*settings)
    assert whole.code == 0, whole.err
    process = subprocess.run(
        [sys.executable, "-m", "cnnvis_cli", *killed],
        cwd=tmp_path,
        env={**os.environ, "DIE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("killed/*.json"))
    assert list(tmp_path.glob("killed/*.state"))
    resumed = cnnvis(*killed)
    assert resumed.code == 0, resumed.err
    assert folder_of(resumed) == folder_of(whole)
    assert not list(tmp_path.glob("killed/*.state"))


def test_interrupt_can_be_resumed(tmp_path: Path, cnnvis: Run) -> None:
    settings = ["evolve", "generations=400", "children=20", "--out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnvis_cli", *settings, "here"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CNNVIS_SAVE_EVERY": "1"},
    )
    for _ in range(600):
        if list(tmp_path.glob("here/*.state")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "The same command goes on after generation" in err
    assert list(tmp_path.glob("here/*-partial.png"))


def test_a_state_of_other_weights_is_refused(cnnvis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def weights(seed: int) -> None:
        torch.manual_seed(seed)
        torch.save(bundled.lenet().state_dict(), "mine.pth")

    settings = ("evolve", *QUICK, "weights=mine.pth", "--quiet")
    weights(0)
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "__call__", lambda interrupt: True)
        assert cnnvis(*settings).code == 130
    weights(1)
    ran = cnnvis(*settings)
    assert ran.code == 2
    assert "was computed with other weights of lenet@mine.pth" in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    weights(0)
    assert cnnvis(*settings).code == 0, "the old weights go on"
    assert not list(Path().glob("**/*.state"))


def test_http_endpoint_with_budget_and_cache(cnnvis: Run) -> None:
    server = Server(answers)
    try:
        settings = ("evolve", f"evaluator={server.url}", "size=9", "encoding=cppn", "generations=6", "children=20", "name=box")
        ran = cnnvis(*settings, "queries=90", "cache=cache.jsonl")
        assert ran.code == 0, ran.err
        assert [row["class"] for row in ran.sidecar["elites"]] == ["red", "green", "blue"]
        assert ran.sidecar["scores"]["queries"] <= 90
        assert "budget of 90 queries is spent" in ran.sidecar["stopped"][0]
        ask = server.calls
        again = cnnvis(*settings, "queries=90", "cache=cache.jsonl", "--out", "again")
        assert again.code == 0
        assert server.calls > ask, "what was cached costs nothing, so it came further"
        assert again.sidecar["scores"]["generations"] > ran.sidecar["scores"]["generations"]
    finally:
        server.stop()


def test_an_evaluator_that_dies_leaves_a_state_to_go_on_from(cnnvis: Run) -> None:
    Path("box.py").write_text(
        "from pathlib import Path\nimport numpy as np\ncalls = 0\n"
        "def judge(images):\n    global calls\n    calls += 1\n"
        "    if calls == 5 and not Path('well').exists(): raise OSError('the cable is out')\n"
        "    return images.mean((1, 2)) / 255\n"
    )
    settings = ("evolve", "evaluator=box:judge", "size=8", *over(QUICK, "generations=9", "name=box"), "--trust-code")
    ran = cnnvis(*settings)
    assert ran.code == 1
    assert "box:judge died: OSError: the cable is out. The same command goes on after generation 2." in ran.err
    Path("well").touch()
    assert cnnvis(*settings).code == 0


def test_transfer_to_another_network(cnnvis: Run) -> None:
    lenet = Path("lenet.safetensors").resolve()
    from cnnvis_cli.files.bundled import assets_folder

    lenet.write_bytes((assets_folder() / "lenet.safetensors").read_bytes())
    ran = cnnvis("evolve", *over(QUICK, "generations=20"), f"also=lenet@{lenet},minivgg", "name=e")
    assert ran.code == 0, ran.err
    scores = ran.sidecar["scores"]
    assert (scores["seen_by_lenet"], scores["known_to_lenet"]) == (10, 10)
    assert scores["known_to_minivgg"] == 0
    rows = list(csv.DictReader(Path("runs/evolve/e-on-lenet.csv").read_text().splitlines()))
    assert [float(row["probability_there"]) for row in rows] == pytest.approx(
        [row["probability"] for row in ran.sidecar["elites"]], rel=1e-6
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["children=0"], "children"),
        (["generations=0"], "generations"),
        (["goal=1.5"], "goal"),
        (["targets=thre"], "Did you mean 'three'"),
        (["targets=10"], "classes 0 to 9"),
        (["frames=two", "targets=one"], "not among the targets"),
        (["encoding=direct", "render=64"], "it belongs to encoding=cppn or shapes"),
        (["elites=3"], "evolution_strategy"),
        (["encoding=cpnn"], "Did you mean 'cppn'"),
        (["rates={add_nod: 1}"], "Did you mean 'add_node'"),
        (["evaluator=box:judge", "size=8"], "--trust-code"),
        (["evaluator=http://127.0.0.1:1"], "size"),
        (["evaluator=cat", "size=8"], "neither a URL"),
        (["size=3"], "size"),
        (["labels=nowhere.txt", "evaluator=math:gcd", "size=8", "--trust-code"], "math:gcd"),
    ],
)
def test_bad_input(cnnvis: Run, settings: list[str], message: str) -> None:
    ran = cnnvis("evolve", *QUICK, *settings)
    assert ran.code in (1, 2)
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert not list(Path().glob("runs/evolve/*.png"))


def test_presets_have_the_papers_numbers_and_examples_load() -> None:
    paper = load_config(EvolveConfig, "evolve", settings=["preset=nguyen2015-mnist-direct"], environment={})
    assert (paper.children, paper.generations, paper.rate, paper.halve_every, paper.eta_m) == (200, 200, 0.1, 1000, 15.0)
    assert paper.goal is None
    for name in named_configs():
        if name.startswith("evolve/"):
            load_config(EvolveConfig, "evolve", config=name, environment={})


@pytest.mark.parametrize("name", ["digits", "noise", "nguyen2015-mnist-direct", "nguyen2015-mnist-cppn", "shapes"])
def test_examples_run(cnnvis: Run, name: str) -> None:
    ran = cnnvis("evolve", "-c", name, "generations=1", "children=8", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["scores"]["generations"] == 1


def test_a_cache_keeps_the_answers_of_each_evaluator_apart(cnnvis: Run) -> None:
    """Three functions on one file, then one that was edited: each gives what it gives without the file."""

    def write(first: str) -> None:
        Path("boxes.py").write_text(
            "import numpy as np\n"
            f"def one(images): return np.stack([images.mean((1, 2, 3)) / 255, {first} - images.mean((1, 2, 3)) / 510], 1)\n"
            "def other(images): return one(images)[:, ::-1]\n"
        )
        sys.modules.pop("boxes", None)

    def answers(function: str, *more: str) -> list[float]:
        settings = ("evolve", f"evaluator=boxes:{function}", "size=8", *over(QUICK, "name=box"), "--trust-code", "--overwrite")
        ran = cnnvis(*settings, *more)
        assert ran.code == 0, ran.err
        return [row["probability"] for row in ran.sidecar["elites"]]

    write("0.8")
    for function in ("one", "other"):
        assert answers(function, "cache=kept.jsonl") == answers(function)
    assert answers("one") != answers("other")
    before = answers("one")
    write("0.7")
    assert answers("one", "cache=kept.jsonl") == answers("one") != before


def test_a_result_of_an_evaluator_that_was_edited_is_made_anew(cnnvis: Run) -> None:
    """Kept means the same files: also the module or the ONNX file that answers, and the file of the classes' names."""
    code = (
        "import numpy as np\ndef judge(images): return np.stack([images.mean((1, 2, 3)) / 255, np.full(len(images), {})], 1)\n"
    )
    Path("judge.py").write_text(code.format(0.1))
    Path("names.txt").write_text("bright\nrest\n")
    settings = ("evolve", "evaluator=judge:judge", "size=8", *over(QUICK, "name=box"), "labels=names.txt", "--trust-code")
    assert cnnvis(*settings).code == 0
    kept = cnnvis(*settings)
    assert "no longer holds" not in kept.err
    Path("judge.py").write_text(code.format(0.2))
    sys.modules.pop("judge", None)
    again = cnnvis(*settings)
    assert again.code == 0
    assert "judge.py is another file now" in again.err
    assert [row["probability"] for row in again.sidecar["elites"]][1] == pytest.approx(0.2)
    Path("names.txt").write_text("light\nrest\n")
    again = cnnvis(*settings)
    assert "names.txt is another file now" in again.err
    assert [row["class"] for row in again.sidecar["elites"]] == ["light", "rest"]
