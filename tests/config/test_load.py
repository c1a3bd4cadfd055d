"""From YAML, environment and words to a typed config."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnvis_cli.cli.examples import command_of
from cnnvis_cli.cli.help import config_yaml, key_rows
from cnnvis_cli.config.load import load_config, named_configs, parse_settings, parse_yaml, read_config_file
from cnnvis_cli.config.maximize import MaximizeConfig
from cnnvis_cli.errors import ConfigError, UserError
from cnnvis_cli.registry import config_class


def maximize(*settings: str, **sources: object) -> MaximizeConfig:
    return load_config(MaximizeConfig, "maximize", settings=settings, **{"environment": {}, **sources})  # type: ignore[arg-type]


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("preset: erhan2009\nsteps: 10\nrate: 0.5\nseed: 1\nbatch: 3\n")
    environment = {"CNNVIS_STEPS": "20", "CNNVIS_RATE": "0.6", "CNNVIS_SEED": "2", "CNNVIS_HOME": "x"}
    config = maximize("rate=0.7", "seed=3", config=str(file), environment=environment, flags={"seed": 4})
    assert (config.batch, config.steps, config.rate, config.seed) == (3, 20, 0.7, 4)
    assert config.update == "normalized", "the preset stands above the default"
    assert maximize("preset=erhan2009", "update=adam").update == "adam"


def test_values_are_read_as_yaml_1_2() -> None:
    assert parse_settings(["k=null", "a=1e-3", "b=no", "c=1:30", "d=[x, 2]", "e=true", "f=", "g.h=3", "i=.25", "j=0-63"]) == {
        "a": 1e-3, "b": "no", "c": "1:30", "d": ["x", 2], "e": True, "f": "", "g": {"h": 3}, "i": 0.25,
        "j": "0-63", "k": None,
    }  # fmt: skip
    assert parse_yaml("rate: 1e-3", "x") == {"rate": 0.001}
    assert parse_settings(["objective=channel:conv4_1:17 - 0.5*channel:conv4_1:3"])["objective"].startswith(
        "channel:conv4_1:17 -"
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_python_writes_is_read_back(number: float) -> None:
    assert parse_yaml(f"rate: {number!r}", "x")["rate"] == number


def test_all_errors_at_once_with_paths_and_hints() -> None:
    with pytest.raises(ConfigError) as caught:
        maximize("steps=abc", "rat=3", "update=adan", "batch=-1")
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert "steps: a whole number is wanted" in text
    assert "rat: unknown key (command line). Did you mean 'rate'" in text
    assert "update:" in text
    assert "Did you mean 'adam'" in text
    assert "batch: at least 1 is wanted (given: -1; command line)" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1\n- 2\n", "must be a mapping"),
        ("a: [1\n", "line 2 is not YAML"),
        ("steps: 1\nsteps: 2\n", "'steps' stands twice"),
        ("command: dream\n", "is a config of 'dream'"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_files_that_are_no_configs(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read_config_file(file, "maximize")


def test_a_resolved_config_is_a_config_again(tmp_path: Path) -> None:
    config = maximize("objective=class:elephant; class:7", "rate=1e-3", "target=2.5")
    file = tmp_path / "again.yaml"
    file.write_text(config_yaml("maximize", config))
    assert maximize(config=str(file)) == config


@pytest.mark.parametrize("name", [name for name in named_configs() if not name.startswith("jobs/")])
def test_every_bundled_example_is_valid_and_says_what_it_is(name: str) -> None:
    path = named_configs()[name]
    command = command_of(path)
    load_config(config_class(command), command, config=str(path), environment={})
    assert path.read_text().startswith("# ")


def test_every_key_of_every_command_is_described() -> None:
    from cnnvis_cli.registry import COMMANDS

    for command in COMMANDS:
        for key, _, about in key_rows(config_class(command)):
            assert len(about) > 8, f"{command}.{key} has no description"


def test_text_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("name=001", "objective=channel:conv4_1:7 # 3", "start=true", "steps=1e3", 'padding="reflect"')
    assert parse_settings(words, MaximizeConfig) == {
        "name": "001", "objective": "channel:conv4_1:7 # 3", "start": "true", "steps": 1000.0, "padding": "reflect",
    }  # fmt: skip
    assert maximize("name=1e3", "seed=007").name == "1e3"
    assert maximize("name=1e3", "seed=007").seed == 7
    assert load_config(MaximizeConfig, "maximize", environment={"CNNVIS_NAME": "0010"}).name == "0010"
    file = tmp_path / "a.yaml"
    file.write_text("name: 007\nsteps: 010\n")
    config = maximize(config=str(file))
    assert (config.name, config.steps) == ("007", 10)
    assert "name: '007'" in config_yaml("maximize", config)


def test_lists_of_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a, b.png").touch()
    (tmp_path / "[x].png").touch()

    def images(word: str) -> tuple[str, ...]:
        return load_config(config_class("fool"), "fool", settings=[f"image={word}"], environment={}).image  # type: ignore[attr-defined, no-any-return]

    assert images("007") == ("007",)
    assert images("shot #1.png,b") == ("shot #1.png", "b")
    assert images("a, b.png") == ("a, b.png",)
    assert images('["a, b.png", c]') == ("a, b.png", "c")
    assert images("[x].png") == ("[x].png",)


def test_names_fit_file_systems() -> None:
    assert maximize(f"name={'山' * 66}").name == "山" * 66
    with pytest.raises(ConfigError, match="201 bytes"):
        maximize(f"name={'山' * 67}")


def test_half_a_character_is_no_text(tmp_path: Path) -> None:
    """YAML can write what no file name and no text can hold; it is told with its line before anything is done with it."""
    file = tmp_path / "half.yaml"
    file.write_text('steps: 3\nobjective: "class:\\uD800"\n')
    with pytest.raises(UserError, match=r"half.yaml, line 2 .*half of a character"):
        read_config_file(file, "maximize")
    assert parse_yaml('name: "\\U0001F600"', "here") == {"name": "\U0001f600"}


def test_a_file_alone_is_taken_for_a_picture_in_the_hint() -> None:
    for word in ("photo.jpg", "a/b.png"):
        with pytest.raises(UserError, match=rf"Did you mean image={word}\?"):
            parse_settings([word], config_class("saliency"))
    with pytest.raises(UserError, match=r"of the form KEY=VALUE\.$"):
        parse_settings(["steps"], config_class("saliency"))


def test_classes_are_drawn_on_a_canvas_where_nothing_speaks_against_it() -> None:
    def preset(*settings: str) -> str:
        return maximize(*settings).preset

    assert preset("objective=class:elephant; contrast:7") == "fel2023"
    assert preset("objective=class:elephant", "steps=9", "size=320") == "fel2023"
    assert maximize("objective=class:elephant").crops > 0
    for other in (
        "size=96",
        "start=grey",
        "parameterization=pixels",
        "model=lenet",
        "diversity=2",
        "preset=olah2017",
        "jitter=0",
    ):
        assert preset("objective=class:elephant", other) == "olah2017", other
    for asked in ("channel:conv3_1:0", "class:elephant; channel:conv3_1:0", "class:elephant - class:7"):
        assert preset(f"objective={asked}") == "olah2017", asked
