"""stdout and stderr closed, full or poor in letters; Ctrl-C at the first moment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]
CNNVIS = f"{sys.executable} -m cnnvis_cli"
FAST = "saliency method=gradient score=false name=p"


def shell(line: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", line], capture_output=True, cwd=HERE, env={**os.environ, **env}, timeout=60)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_stdout_is_told_in_one_line_and_the_pictures_are_saved(tmp_path: Path) -> None:
    done = shell(f"{CNNVIS} {FAST} --quiet --out {tmp_path} >/dev/full")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(b"cnnvis: stdout: No space left on device")
    assert (tmp_path / "p.png").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["models", "maximize --help", "--version"])
def test_what_is_printed_outside_of_jobs_too(command: str) -> None:
    done = shell(f"{CNNVIS} {command} >/dev/full")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full", ">&-", "<&-"])
def test_messages_that_nobody_takes_stop_nothing(tmp_path: Path, end: str) -> None:
    done = shell(f"{CNNVIS} {FAST} --out {tmp_path} {end}")
    assert done.returncode == 0
    assert (tmp_path / "p.json").read_text().startswith("{")
    if end != ">&-":
        assert done.stdout.split()[0].decode() == str(tmp_path / "p.png")


def test_a_path_is_printed_as_the_file_system_has_it(tmp_path: Path) -> None:
    done = shell(f"{CNNVIS} {FAST} --out {tmp_path}/ü --quiet", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert Path(os.fsdecode(done.stdout.split()[0])).exists()


@pytest.mark.parametrize("module", ["cnnvis_cli.cli.app", "typer", "yaml", "torch", "torch.nn", "numpy"])
def test_ctrl_c_while_the_rest_is_loaded_ends_with_130(tmp_path: Path, module: str) -> None:
    program = (
        "import os, signal, sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Pressed())\n"
        f"sys.argv = ['cnnvis', 'maximize', 'steps=2', '--out', {str(tmp_path)!r}]\n"
        "from cnnvis_cli.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=HERE, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, b"cnnvis: interrupted\n")
    assert not list(tmp_path.iterdir())
