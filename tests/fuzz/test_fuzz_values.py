"""Anything for every key of every command; configs, job files and records of any shape."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cnnvis_cli.batch.jobsfile import read_jobs
from cnnvis_cli.batch.plan import make_plan
from cnnvis_cli.cli.help import config_yaml
from cnnvis_cli.config.load import build_config, load_config, parse_settings, parse_yaml, read_config_file
from cnnvis_cli.gallery.collect import item_of
from cnnvis_cli.jobs.record import config_hash, parse_record, safe_name
from cnnvis_cli.registry import COMMANDS, config_class
from tests.fuzz.strategies import attempt, fuzz, scalars, texts, values

commands = st.sampled_from(list(COMMANDS))
keys = st.sampled_from(sorted({key for command in COMMANDS for key in config_class(command).model_fields}))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def used(command: str, config: Any) -> None:
    """What every run does with its config before it begins."""
    if config is None:
        return
    config_hash(command, config)
    assert safe_name(config.name or config.slug())
    again = parse_yaml(config_yaml(command, config), "again")
    again.pop("command")
    assert build_config(config_class(command), again) == config


@fuzz
@given(st.data())
def test_every_key_of_every_command(data: st.DataObject) -> None:
    command = data.draw(commands)
    own = st.sampled_from(list(config_class(command).model_fields))
    given_values = data.draw(st.dictionaries(own, values, max_size=3))
    used(command, attempt(lambda: build_config(config_class(command), given_values)))


@fuzz
@given(st.data())
def test_words_of_a_command_line(data: st.DataObject) -> None:
    command = data.draw(commands)
    own = st.one_of(st.sampled_from(list(config_class(command).model_fields)), texts)
    words = data.draw(st.lists(st.builds(lambda key, text: f"{key}={text}", own, texts) | texts, max_size=3))
    variables = data.draw(st.dictionaries(keys.map(lambda key: f"CNNVIS_{key.upper()}"), texts, max_size=2))
    schema = config_class(command)
    used(command, attempt(lambda: load_config(schema, command, settings=words, environment=variables)))
    attempt(lambda: parse_settings(words))


_PIECES = (
    *("a", "b: ", "- ", "[", "]", "{", "}", ", ", ": ", "\n", "  ", "&x ", "*x", "!!int ", "|", ">", "? ", "'", '"', "#", "%"),
    *("@", "`", "<<", "1e3", "08", "~", "\t", "---\n", "...\n", "steps: ", "objective: ", "command: "),
)


@fuzz
@given(st.one_of(st.lists(st.sampled_from(_PIECES), max_size=30).map("".join), texts, values.map(lambda v: repr(v))))
def test_yaml_of_any_form(folder: Path, text: str) -> None:
    attempt(lambda: parse_yaml(text, "here"))
    file = folder / "any.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    used("maximize", attempt(lambda: load_config(config_class("maximize"), "maximize", config=str(file), environment={})))


_axis = st.one_of(values, st.fixed_dictionaries({"range": values}), st.fixed_dictionaries({"files": scalars}))
_axes = st.one_of(values, st.dictionaries(keys, _axis, max_size=2))
_job = st.one_of(
    values,
    st.builds(
        lambda command, more, special: {"command": command, **more, **special},
        st.one_of(commands, scalars),
        st.dictionaries(keys, values, max_size=2),
        st.fixed_dictionaries({}, optional={"matrix": _axes, "zip": _axes, "config": values, "out": values, "name": texts}),
    ),
)
_file = st.one_of(
    values,
    st.fixed_dictionaries(
        {"jobs": st.one_of(values, st.lists(_job, max_size=3))},
        optional={"defaults": st.one_of(values, st.dictionaries(keys, values, max_size=2)), "include": values, "out": values},
    ),
)


@fuzz
@given(_file)
def test_job_files_of_any_shape(folder: Path, content: Any) -> None:
    file = folder / "jobs.yaml"
    try:
        text = yaml.safe_dump(content, allow_unicode=True)
    except (yaml.YAMLError, ValueError):
        text = repr(content)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    attempt(lambda: make_plan(read_jobs(file), str(folder / "out")))


_RECORD = (
    *(
        "command",
        "name",
        "config",
        "config_hash",
        "seed",
        "scores",
        "files",
        "inputs",
        "skipped",
        "device",
        "versions",
        "trace",
    ),
    *("seconds", "classes", "tiles", "rows", "warnings", "fitted_batch"),
)


@fuzz
@given(
    st.one_of(
        values,
        st.builds(
            lambda command, fields: {"command": command, "config_hash": "0", **fields},
            st.one_of(commands, scalars),
            st.dictionaries(st.sampled_from(_RECORD), values, max_size=6),
        ),
    )
)
def test_json_beside_results_of_any_shape(folder: Path, content: Any) -> None:
    data = json.dumps(content).encode()
    parse_record(data)
    results = folder / "results"
    results.mkdir(exist_ok=True)
    (results / "a.png").touch()
    (results / "a.json").write_bytes(data)
    attempt(lambda: read_config_file(results / "a.json", "maximize"))
    item = item_of(results / "a.json", results / "index.html")
    assert not isinstance(item, str) or item.startswith("no JSON"), item
