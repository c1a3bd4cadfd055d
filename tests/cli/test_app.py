"""The shell of the command line: start-up, walls between the rooms, informative commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnvis_cli.registry import COMMANDS
from tests.conftest import Ran

Run = Callable[..., Ran]
PACKAGE = Path(__file__).parents[2] / "cnnvis_cli"


def test_help_and_dry_run_import_no_torch() -> None:
    code = (
        "import sys\nfrom cnnvis_cli.cli.app import main\n"
        f"for words in (['--help'], *[[c, '--help'] for c in {list(COMMANDS)}], ['maximize', '--dry-run'], ['models', '-h']):\n"
        "    try: main(words)\n    except SystemExit as stop: assert not stop.code, (words, stop.code)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, cwd=PACKAGE.parent)


def test_models_layers_and_doctor(cnnvis: Run) -> None:
    models = cnnvis("models").out
    assert "minivgg" in models
    assert "resnet18" in models
    layers = cnnvis("layers", "minivgg").out
    assert "conv3_2" in layers
    assert "24x24" in layers
    assert "relu4_3" in cnnvis("layers", "vgg16").out
    assert "features.3" in cnnvis("layers", "squeezenet1_0", "weights=random").out
    assert cnnvis("layers", "minivg").code == 2
    assert "torch " in cnnvis("doctor").out


def test_configs_list_show_copy_check(cnnvis: Run) -> None:
    assert "maximize/class" in cnnvis("configs", "list").out
    assert "class:elephant" in cnnvis("configs", "show", "maximize/class").out
    copied = cnnvis("configs", "copy", "maximize/class")
    assert Path("class.yaml").read_text() == cnnvis("configs", "show", "maximize/class").out
    assert copied.code == 0
    assert cnnvis("configs", "copy", "maximize/class").code == 2
    Path("bad.yaml").write_text("command: maximize\nstep: 3\nrate: x\n")
    checked = cnnvis("configs", "check", "bad.yaml")
    assert checked.code == 2
    assert checked.err.count("\n") == 2
    assert cnnvis("configs", "check").code == 0


def test_unknown_commands_and_options(cnnvis: Run) -> None:
    assert cnnvis("maximise").code == 2
    assert cnnvis("maximize", "--no-such-option").code == 2
    assert cnnvis("--version").out.startswith("cnnvis ")


def test_a_setting_written_as_an_option_is_told_how_it_is_written(cnnvis: Run) -> None:
    for words, wanted in ((["--method", "guided"], "method=..."), (["--samples=4"], "samples=4")):
        ran = cnnvis("saliency", "image=sample:chelsea", *words)
        assert ran.code == 2
        assert f"Settings have no dashes: {wanted}" in ran.err, ran.err


def test_a_mistyped_file_is_told_what_lies_beside_it(cnnvis: Run, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    (tmp_path / "holidays.txt").write_bytes(b"")
    ran = cnnvis("saliency", f"image={tmp_path / 'holliday.jpg'}")
    assert ran.code == 2
    assert ran.err.endswith("Did you mean 'holiday.jpg'?\n"), ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_key_of_the_config(cnnvis: Run, command: str) -> None:
    from cnnvis_cli.registry import config_class

    text = cnnvis(command, "--help").out
    for key in config_class(command).model_fields:
        assert f"  {key}=" in text


def test_layers_have_their_receptive_field(cnnvis: Run) -> None:
    lines = {line.split()[0]: line for line in cnnvis("layers", "minivgg").out.splitlines()}
    assert lines["relu5_2"].endswith("140x140 every 16")
    assert lines["fc"].endswith("whole picture")
