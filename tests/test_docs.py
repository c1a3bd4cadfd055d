"""The README says what is true: its commands, options and keys exist, and its tables leave no command out."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cnnvis_cli.cli.app import app
from cnnvis_cli.config.load import find_config, load_config
from cnnvis_cli.errors import UserError
from cnnvis_cli.registry import COMMANDS, config_class

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")
ROOT = typer.main.get_command(app)
KNOWN = ROOT.commands  # type: ignore[attr-defined]


def command_lines() -> list[str]:
    """Every `cnnvis ...` of the code blocks, with continued lines put together."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    return [found[1] for line in lines if (found := re.match(r"\s*(?:[$@]\s*)?(cnnvis(?: .*)?)$", line))]


def test_there_are_examples() -> None:
    assert len(command_lines()) > 10


@pytest.mark.parametrize("command", [*COMMANDS, "run", "gallery"])
def test_every_command_stands_in_the_table(command: str) -> None:
    assert re.search(rf"^\|.*`(?:cnnvis )?{command}\b.*\|", TEXT, re.MULTILINE), f"README has no row for `{command}`"


@pytest.mark.parametrize("command", sorted(KNOWN))
def test_every_command_is_named(command: str) -> None:
    assert f"cnnvis {command}" in TEXT


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^\| `cnnvis (\w+)", TEXT, re.MULTILINE))))
def test_the_table_names_nothing_that_is_not_there(command: str) -> None:
    assert command in KNOWN


@pytest.mark.parametrize("line", command_lines())
def test_every_example_can_be_typed(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words[:1] == ["COMMAND"]:  # the grammar itself
        return
    if not words or words[0].startswith("-") or words[0] not in COMMANDS:
        assert not words or words[0].startswith("-") or words[0] in KNOWN, line
        return
    command = words[0]
    options = {option for parameter in KNOWN[command].params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= options, line
    settings = [word for word in words[1:] if "=" in word and not word.startswith("-")]
    named = next((words[at + 1] for at, word in enumerate(words) if word in ("-c", "--config")), None)
    bundled = None
    if named is not None:
        try:
            bundled = str(find_config(named, command))
        except UserError:
            assert Path(named).suffix in (".yaml", ".json"), line  # a file of the reader's own
    load_config(config_class(command), command, config=bundled, settings=settings, environment={})


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bjobs/(\w+)\b", TEXT))))
def test_job_files_that_are_named_exist(name: str) -> None:
    assert find_config(f"jobs/{name}", "run")


def test_adding_a_technique_as_the_readme_says(tmp_path: Path) -> None:
    """Followed to the letter, in a copy of the package."""
    section = TEXT.split("## Add a technique", 1)[1].split("\n## ", 1)[0]
    assert len(section.splitlines()) <= 25
    copy = tmp_path / "cnnvis_cli"
    shutil.copytree(README.parent / "cnnvis_cli", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "assets").symlink_to(README.parent / "assets")
    (tmp_path / "configs").symlink_to(README.parent / "configs")
    for code in re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE):
        (tmp_path / code.split()[1]).write_text(code)
    registry = copy / "registry.py"
    registry.write_text(registry.read_text().replace("COMMANDS = {", 'COMMANDS = {\n    "contrast": "what it shows",', 1))
    run = [sys.executable, "-m", "cnnvis_cli", "contrast", "share=0.25", "--json", "-q"]
    ran = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    line = json.loads(ran.stdout)
    assert 0 < line["scores"]["probability"] <= 1
    assert (tmp_path / line["files"][0]).exists()
    helped = subprocess.run([*run[:3], "contrast", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "share=" in helped.stdout
