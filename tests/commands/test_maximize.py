"""`cnnvis maximize` as a user runs it."""

from __future__ import annotations

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

from cnnvis_cli.commands import maximize
from cnnvis_cli.config.load import load_config
from cnnvis_cli.config.maximize import MaximizeConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.errors import Interrupted
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.jobs.kept import result_name
from cnnvis_cli.jobs.run import run_job
from cnnvis_cli.jobs.session import make_session
from cnnvis_cli.pictures.read import PictureFile, find_picture, read, to_square
from tests.conftest import Ran

Run = Callable[..., Ran]
QUICK = ("size=64", "steps=8", "titles=false")


def test_default_names_scores_and_determinism(cnnvis: Run, minivgg: Network) -> None:
    first = cnnvis("maximize", "objective=class:elephant", *QUICK)
    assert first.code == 0, first.err
    (path,) = first.files
    assert path == Path("runs/maximize/minivgg_class-elephant_size-64_steps-8.png")
    scores = first.sidecar["scores"]
    with torch.no_grad():
        logits = minivgg(read(PictureFile("x", path)))[0]
    index = minivgg.class_index("elephant")
    assert scores["value"] == pytest.approx(logits[index].item(), rel=1e-4), "the score is that of the saved file"
    assert scores["probability"] == pytest.approx(logits.softmax(0)[index].item(), rel=1e-3)
    assert scores["value"] > scores["start"]
    again = cnnvis("maximize", "objective=class:elephant", *QUICK, "--out", "other")
    assert again.files[0].read_bytes() == path.read_bytes()
    other = cnnvis("maximize", "objective=class:elephant", *QUICK, "--out", "third", "--seed", "1")
    assert other.files[0].read_bytes() != path.read_bytes()


def test_a_result_is_kept_and_another_config_is_refused(cnnvis: Run) -> None:
    cnnvis("maximize", *QUICK, "name=a")
    path = Path("runs/maximize/a.png")
    before = path.stat().st_mtime_ns
    kept = cnnvis("maximize", *QUICK, "name=a")
    assert kept.code == 0
    assert "kept" in kept.err
    assert path.stat().st_mtime_ns == before
    refused = cnnvis("maximize", *QUICK, "name=a", "rate=0.1")
    assert refused.code == 2
    assert "rate: None, now 0.1" in refused.err
    assert cnnvis("maximize", *QUICK, "name=a", "rate=0.1", "--overwrite").code == 0
    repeated = cnnvis("maximize", "-c", "runs/maximize/a.json", "--out", "repeat")
    assert repeated.files[0].read_bytes() == path.read_bytes()


def test_a_sheet_has_every_channel_and_its_tiles_are_the_single_pictures(cnnvis: Run, minivgg: Network) -> None:
    sheet = cnnvis("maximize", "objective=channel:conv2_1:0-4", *QUICK, "batch=3", "columns=5")
    rows = sheet.sidecar["scores"]["pictures"]
    assert [row["objective"] for row in rows] == [f"channel:conv2_1:{i}" for i in range(5)]
    assert all(row["value"] > row["start"] for row in rows)
    single = cnnvis("maximize", "objective=channel:conv2_1:4", *QUICK)
    left, top, right, bottom = sheet.sidecar["tiles"][4]
    tile = np.asarray(Image.open(sheet.files[0]))[top:bottom:3, left:right:3].astype(int)  # small pictures are enlarged
    alone = np.asarray(Image.open(single.files[0])).astype(int)
    assert np.abs(tile - alone).mean() < 1.0


@pytest.mark.parametrize(
    "settings",
    [
        ("preset=erhan2009",),
        ("preset=simonyan2014", "objective=class:face"),
        ("preset=yosinski2015", "objective=class:face"),
        ("update=sign", "parameterization=pixels", "rate=0.01", "start=sample:chelsea"),
        ("update=lbfgs", "rate=0.5", "jitter=0", "rotate=0", "zoom=0"),
        ("lp=1", "tv=1", "center_bias=0.5", "start=grey"),
        ("parameterization=pixels", "update=normalized", "rate=0.01", "start=zero"),
        ("objective=neuron:conv4_1:3:2:2",),
        ("objective=layer:conv4_1",),
    ],
)
def test_every_way_of_rising_rises(cnnvis: Run, settings: tuple[str, ...]) -> None:
    ran = cnnvis("maximize", "size=64", *settings, "steps=16")
    assert ran.code == 0, ran.err
    scores = ran.sidecar["scores"]
    assert scores["value"] > scores["start"]
    assert np.asarray(Image.open(ran.files[0])).std() > 4


def test_the_minimum(cnnvis: Run) -> None:
    scores = cnnvis("maximize", "objective=channel:conv3_1:4", "maximize=false", *QUICK).sidecar["scores"]
    assert scores["value"] > scores["start"]
    assert scores["objective"] == "-1*channel:conv3_1:4"


def test_diversity_makes_pictures_differ(cnnvis: Run) -> None:
    def spread(weight: float) -> float:
        options = (
            "objective=channel:conv4_1:9",
            "size=64",
            "steps=30",
            "patience=null",
            "diversity=2",
            f"diversity_weight={weight}",
            "batch=2",
        )
        ran = cnnvis("maximize", *options, f"name=w{weight}")
        tiles = read(PictureFile("x", ran.files[0]))[0]
        network_input = torch.stack([tiles[:, 4:132:2, 4:132:2], tiles[:, 4:132:2, 136:264:2]])
        from cnnvis_cli.engine.optim import objectives
        from cnnvis_cli.engine.optim.evaluate import score
        from cnnvis_cli.networks.load import NetworkSpec, load_network

        network, _ = load_network(NetworkSpec("minivgg"), torch.device("cpu"))
        return score(network, objectives.diversity("conv4_1"), network_input).mean().item()

    assert spread(5.0) > spread(0.0)


def test_interpolation_facets_frames_and_stops(cnnvis: Run) -> None:
    between = cnnvis("maximize", "objective=channel:conv3_1:1; channel:conv3_1:2", "interpolate=1", *QUICK)
    assert [row["objective"] for row in between.sidecar["scores"]["pictures"]][
        1
    ] == "0.5*channel:conv3_1:1 + 0.5*channel:conv3_1:2"
    Path("some").mkdir()
    for name in range(6):
        values = np.random.default_rng(name).integers(0, 255, (70, 70, 3), dtype=np.uint8)
        Image.fromarray(values).save(f"some/{name}.png")
    facets = cnnvis("maximize", "objective=class:face", "preset=nguyen2016", "pictures=some", "facets=2", "size=64", "steps=6")
    assert facets.code == 0, facets.err
    assert len(facets.sidecar["scores"]["pictures"]) == 2
    frames = cnnvis("maximize", *QUICK, "frames=true", "every=2", "name=way")
    assert Image.open(frames.files[1]).n_frames == 4
    stopped = cnnvis("maximize", "size=64", "objective=channel:conv3_1:1", "target=0.01", "name=t").sidecar
    assert stopped["stopped"] == ["target"]
    assert stopped["steps"][0] < 256


def test_frames_are_those_of_the_first_batch(cnnvis: Run) -> None:
    """Frames of later batches were painted over the first batch's."""
    settings = ("size=64", "steps=6", "batch=1", "frames=true", "every=2")
    alone = cnnvis("maximize", "objective=channel:conv3_1:1", *settings, "name=alone")
    both = cnnvis("maximize", "objective=channel:conv3_1:1-2", *settings, "name=both")
    assert both.files[1].read_bytes() == alone.files[1].read_bytes()


def test_a_damaged_state_is_said_and_kept_aside(cnnvis: Run) -> None:
    Path("runs/maximize").mkdir(parents=True)
    Path("runs/maximize/d.state").write_bytes(b"no state")
    ran = cnnvis("maximize", *QUICK, "name=d")
    assert ran.code == 0
    assert "d.state.bad" in ran.err
    assert Path("runs/maximize/d.state.bad").read_bytes() == b"no state"


def test_figures_say_what_they_show_and_scores_are_of_what_was_saved(cnnvis: Run, minivgg: Network) -> None:
    settings = ("objective=class:elephant", "size=96", "steps=4", "seen_by=none")
    said, bare = (cnnvis("maximize", *settings, f"titles={yes}", "--out", yes) for yes in ("true", "false"))
    (left, top, right, bottom), page = said.sidecar["tiles"][0], read(PictureFile("x", said.files[0]))
    assert page.shape[2] > bottom + 10, "a line under the picture"
    assert torch.equal(page[..., top:bottom, left:right], read(PictureFile("x", bare.files[0])))
    assert said.sidecar["scores"] == bare.sidecar["scores"]


def test_settings_that_differ_give_another_name() -> None:
    def name(*more: str) -> str:
        return result_name(load_config(MaximizeConfig, "maximize", settings=[*QUICK, *more], environment={}))

    names = {name(), name("rate=0.1"), name("seed=3"), name("tv=1")}
    assert len(names) == 4
    assert "minivgg_channel-conv5_2-0_seed-3_size-64_steps-8" in names


@pytest.mark.parametrize("update", ["gradient", "sign", "normalized"])
@pytest.mark.parametrize("parameterization", ["pixels", "fourier"])
def test_steps_along_the_gradient_move_at_their_own_rate(cnnvis: Run, update: str, parameterization: str) -> None:
    ways = (f"update={update}", f"parameterization={parameterization}", "start=zero", "jitter=0", "rotate=0", "zoom=0")
    ran = cnnvis("maximize", "objective=class:elephant", "size=64", "steps=12", "titles=false", *ways)
    assert ran.code == 0, ran.err
    scores = ran.sidecar["scores"]
    assert scores["value"] > scores["start"] + 1


def test_a_picture_is_recognizable_for_the_first_steps(cnnvis: Run) -> None:
    ran = cnnvis("maximize", "objective=class:elephant", "start=sample:chelsea", "size=96", "steps=8", "titles=false")
    start = to_square(read(find_picture("sample:chelsea")), 96)
    assert (read(PictureFile("x", ran.files[0])) - start).abs().mean() < 0.08


def test_zero_is_the_zero_of_the_networks_input(cnnvis: Run, minivgg: Network) -> None:
    settings = ("start=zero", "parameterization=pixels", "steps=1", "rate=1e-6", "size=64", "titles=false")
    ran = cnnvis("maximize", *settings)
    assert (read(PictureFile("x", ran.files[0]))[0].mean((1, 2)) - minivgg.mean_color).abs().max() < 0.01


def test_lenet_takes_its_own_size(cnnvis: Run) -> None:
    ran = cnnvis("maximize", "model=lenet", "objective=class:3", "steps=8", "titles=false")
    assert Image.open(ran.files[0]).size == (28, 28)
    wrong = cnnvis("maximize", "model=lenet", "objective=class:3", "size=64", "--overwrite")
    assert wrong.code == 2
    assert "Try size=28" in wrong.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["objective=channel:conv9_9:0"], "no layer 'conv9_9'"),
        (["objective=channel:conv3_1:999"], "out of range"),
        (["objective=class:unicorn"], "knows no class 'unicorn'"),
        (["stepps=3"], "Did you mean 'steps'"),
        (["steps=abc"], "steps: a whole number is wanted"),
        (["steps=-1"], "steps: at least 1 is wanted"),
        (["steps"], "KEY=VALUE"),
        (["-c", "nowhere.yaml"], "no config file 'nowhere.yaml'"),
        (["weights=nowhere.pth"], "no weights file 'nowhere.pth'"),
        (["model=resnet17"], "Did you mean 'resnet1"),
        (["model=os:getcwd"], "--trust-code"),
        (["model=vgg16", "--offline"], "--offline"),
        (["--device", "cuda"], "no usable CUDA device"),
        (["--device", "tpu"], "no device 'tpu'"),
        (["start=nowhere.png"], "no picture 'nowhere.png'"),
        (["--out", "/proc/nowhere"], "Choose another with --out"),
        (["blur_every=3"], "need parameterization=pixels"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_2(cnnvis: Run, arguments: list[str], message: str) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    ran = cnnvis("maximize", *arguments)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert ran.out == ""
    assert not list(Path().rglob("*.png"))


def test_weights_of_another_architecture(cnnvis: Run) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, "other.pth")
    ran = cnnvis("maximize", "weights=other.pth")
    assert ran.code == 2
    assert "are not of minivgg" in ran.err
    Path("text.pth").write_text("no weights")
    assert "not a file of weights" in cnnvis("maximize", "weights=text.pth").err


def _start(folder: Path, *extra: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "cnnvis_cli",
        "maximize",
        "objective=channel:conv2_1:1",
        "size=32",
        "steps=250",
        "patience=null",
        *extra,
    ]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def test_a_sheet_interrupted_in_its_second_batch_goes_on_there(cnnvis: Run) -> None:
    """In-process, so that the step at which the interruption comes is known."""
    settings = ["objective=channel:conv2_1:0-3", "size=32", "steps=6", "batch=2", "frames=true", "every=2"]
    config = load_config(MaximizeConfig, "maximize", settings=settings, environment={})
    whole = run_job("maximize", config, Path("whole"), make_session("cpu", quiet=True))
    session, calls = make_session("cpu", quiet=True), iter(range(1000))
    session.interrupt = lambda: next(calls) >= 9  # type: ignore[assignment]
    job = Job("maximize", config, Path("broken"), session)
    assert job.begin()
    with pytest.raises(Interrupted, match="after 3 steps"):
        maximize.run(config, job)
    assert not job.record_file.exists()
    resumed = run_job("maximize", config, Path("broken"), make_session("cpu", quiet=True))
    assert resumed.fresh
    assert [path.read_bytes() for path in resumed.files] == [path.read_bytes() for path in whole.files]
    assert not job.resume.path.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_then_the_same_command_gives_the_same_bytes(tmp_path: Path, number: signal.Signals) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    process = _start(broken)
    _wait_for_step(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    if process.returncode == 0:
        pytest.skip("the run ended before the signal came")
    assert process.returncode == 130
    assert "goes on from there" in err
    left = sorted(
        p.name.removeprefix("minivgg_channel-conv2_1-1_size-32_steps-250_patience-None")
        for p in (broken / "runs/maximize").iterdir()
    )
    assert left == ["-partial.png", ".state"]
    results = []
    for folder in (broken, whole):
        process = _start(folder)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        results.append((folder / out.strip()).read_bytes())
        assert sorted(p.suffix for p in (folder / "runs/maximize").iterdir()) == [".json", ".png"]
    assert results[0] == results[1]


def _wait_for_step(process: subprocess.Popen[str]) -> None:
    """Until the process has imported torch and burns time in the loop: its handler is installed by then."""
    stat = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        caught = (
            next((line for line in stat.read_text().splitlines() if line.startswith("SigCgt")), "") if stat.exists() else ""
        )
        if caught and int(caught.split()[1], 16) & (1 << (signal.SIGTERM - 1)):
            time.sleep(0.2)
            return
        time.sleep(0.02)


def test_kill_9_leaves_no_half_file(tmp_path: Path) -> None:
    process = _start(tmp_path)
    _wait_for_step(process)
    process.kill()
    process.communicate()
    folder = tmp_path / "runs/maximize"
    assert not [p for p in folder.iterdir() if p.suffix in (".png", ".json")]
    again = _start(tmp_path)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    Image.open(tmp_path / out.strip()).load()


def test_json_lines_dry_run_and_environment(cnnvis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.loads(cnnvis("maximize", *QUICK, "--json", "--quiet").out)
    assert line["fresh"] is True
    assert Path(line["files"][0]).exists()
    monkeypatch.setenv("CNNVIS_STEPS", "7")
    dry = cnnvis("maximize", "--dry-run", "size=64")
    assert "steps: 7\n" in dry.out
    assert "command: maximize\n" in dry.out


def test_units_that_stay_silent_are_named_and_only_they(cnnvis: Run) -> None:
    """One unit that nothing excites, one that the grey start silences but whose gradient is let through, one that is active."""
    Path("half_dead.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make():\n"
        "    first = nn.Conv2d(3, 3, 1)\n"
        "    first.weight.data = torch.tensor([[0., 0, 0], [1, 0, 0], [1, 0, 0]])[..., None, None]\n"
        "    first.bias.data = torch.tensor([-1., -0.52, 0.])\n"
        "    net = nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))\n"
        "    net.preprocessing = {'mean': [0.0] * 3, 'std': [1.0] * 3, 'size': 32}\n"
        "    return net\n"
    )
    settings = ("model=half_dead:make", "objective=channel:1:0-2", "size=32", "steps=40", "rotate=0", "zoom=0", "start=grey")
    said = cnnvis("maximize", *settings, "--trust-code")
    assert said.code == 0, said.err
    (warning,) = said.sidecar["warnings"]
    assert warning in said.err
    assert warning.startswith("channel:1:0: never active")
    values = [tile["value"] for tile in said.sidecar["scores"]["pictures"]]
    assert values[0] == 0
    assert min(values[1:]) > 0.02


def test_a_canvas_of_crops_fades_and_is_scored_by_crops_of_the_file(cnnvis: Run, minivgg: Network) -> None:
    settings = ("preset=fel2023", "objective=class:elephant", "size=128", "steps=12", "crops=3", "titles=false")
    ran = cnnvis("maximize", *settings)
    assert ran.code == 0, ran.err
    picture = read(PictureFile("x", ran.files[0]))
    corners = torch.stack([picture[0, :, y, x] for y in (1, -2) for x in (1, -2)])
    assert (corners - 1).abs().max() < 0.03, "what is in no crop's sight is paper"
    scores = ran.sidecar["scores"]
    assert scores["value"] > scores["start"] + 1
    assert scores["best_sample"]["name"].startswith("sample:caltech/elephant")
    refused = cnnvis("maximize", "fade=true", "--overwrite")
    assert refused.code == 2
    assert "fel2023" in refused.err


def test_a_second_network_says_what_it_sees(cnnvis: Run) -> None:
    said = cnnvis("maximize", "objective=class:elephant", "steps=2", "size=48", "seen_by=lenet").sidecar["scores"]
    assert said["seen_by"] == "lenet"
    assert said["seen_probability"] is None, "lenet knows no elephants"
    own = cnnvis("maximize", "objective=class:elephant", "steps=60", "size=96", "seen_by=minivgg", "name=own").sidecar["scores"]
    assert own["seen_probability"] == pytest.approx(own["probability"], abs=1e-3)
    assert own["seen_as"] == "elephant"


def test_without_a_word_a_network_of_others_is_judged_where_classes_are_shared(cnnvis: Run, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(["unicorn", "church", "7"] + [f"thing {i}" for i in range(997)]))
    line = ("maximize", "model=squeezenet1_0", "weights=random", f"classes={names}", "steps=1", "size=64", "preset=olah2017")
    shared = cnnvis(*line, "objective=class:church; class:unicorn", "name=shared").sidecar["scores"]["pictures"]
    assert [row["seen_by"] for row in shared] == ["minivgg_robust"] * 2
    assert shared[0]["seen_probability"] is not None
    assert shared[1]["seen_probability"] is None
    for alone in ("class:unicorn", "class:7"):
        assert "seen_by" not in cnnvis(*line, f"objective={alone}", "name=alone", "--overwrite").sidecar["scores"], alone
