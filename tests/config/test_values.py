"""Values that are no values, or of no effect: each is refused in a line, with where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnvis_cli.batch.jobsfile import read_jobs
from cnnvis_cli.batch.plan import make_plan
from cnnvis_cli.cli.help import key_rows
from cnnvis_cli.config.base import CommandConfig, wants_number
from cnnvis_cli.config.load import build_config, load_config, parse_settings
from cnnvis_cli.errors import ConfigError, UserError
from cnnvis_cli.registry import COMMANDS, config_class

NUMBERS = [
    (command, key)
    for command in COMMANDS
    for key, field in config_class(command).model_fields.items()
    if wants_number(field.annotation)
]


def load(command: str, *settings: str, **sources: Any) -> CommandConfig:
    return load_config(config_class(command), command, settings=settings, **{"environment": {}, **sources})


def problems(command: str, *settings: str, **sources: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(command, *settings, **sources)
    return caught.value.problems


@pytest.mark.parametrize(("command", "key"), NUMBERS)
def test_every_number_has_limits_and_is_no_truth(command: str, key: str) -> None:
    for value in (1e300, -1e300, 10**30, -(10**30), True, False, [True, 1e300]):
        with pytest.raises(ConfigError) as caught:
            build_config(config_class(command), {key: value})
        assert any(problem.startswith((f"{key}:", f"{key}.")) for problem in caught.value.problems), value


def test_seeds_go_as_far_as_generators_take_them() -> None:
    assert load("maximize", "seed=9223372036854775807").seed == 2**63 - 1
    assert "seed:" in problems("maximize", "seed=9223372036854775808")[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_keys_belong_to_names_keys_and_is_shown(command: str) -> None:
    schema = config_class(command)
    rows = {key: about for key, _, about in key_rows(schema)}
    for key, conditions in schema.belongs.items():
        assert key in schema.model_fields
        for condition in conditions:
            assert hasattr(schema, condition.key) or condition.key in schema.model_fields
            assert str(condition) in rows[key]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["fool", "attack=fgsm", "steps=3", "kappa=2"],
            [
                "steps has no effect with attack=fgsm: it belongs to attack other than fgsm or square (command line)",
                "kappa has no effect with attack=fgsm: it belongs to attack=carlini-wagner (command line)",
            ],
        ),
        (["fool", "kappa=3"], ["kappa has no effect with attack=pgd"]),
        (["maximize", "facets=3"], ["facets has no effect with start=noise: it belongs to start=facets"]),
        (
            ["maximize", "crop_share=0.3"],
            ["crop_share has no effect with crops=0: it belongs to crops of the picture: crops=8"],
        ),
        (["maximize", "every=3"], ["every has no effect with frames=false"]),
        (["maximize", "pictures=x"], ["pictures has no effect with none of the three"]),
        (["dream", "smallest=900", "size=64"], ["smallest 900 is more than the size of 64"]),
        (["dream", "zoom_steps=9"], ["zoom_steps has no effect with zoom=0"]),
        (["saliency", "layer=conv4_1"], ["layer has no effect with method=smoothgrad"]),
        (["texture", "method=quilting", "tv=3", "window=9"], ["tv has no effect", "window has no effect"]),
        (["invert", "variation=0", "beta=3"], ["beta has no effect with variation=0"]),
        (["evolve", "rates.split=0.1", "encoding=direct"], ["rates has no effect"]),
        (["evolve", "mean=0.5"], ["mean has no effect"]),
        (["style", "stylizer=paintings", "steps=3", "tv=1"], ["steps has no effect", "tv has no effect"]),
        (["style", "budget=90s", "steps=3"], ["steps has no effect beside a budget"]),
        (["train", "mixup=0.5", "smoothing=0.2"], ["mixup has no effect with kind=stylizer", "smoothing has no effect"]),
        (["maximize", "size=64", "jitter=65"], ["jitter 65 shifts by more than the picture's side of 64"]),
    ],
)
def test_keys_without_effect_are_refused_all_at_once(settings: list[str], said: list[str]) -> None:
    found = problems(*settings)
    assert len(found) == len(said)
    assert all(part in "\n".join(found) for part in said), found


def test_what_a_preset_brings_is_no_mistake() -> None:
    assert load("maximize", "preset=fel2023").crops == 8  # type: ignore[attr-defined]
    assert load("evolve", "preset=nguyen2015-mnist-cppn", "encoding=direct").encoding == "direct"  # type: ignore[attr-defined]
    assert load("train", "kind=network", "architecture=lenet").batch == 64  # type: ignore[attr-defined]


def test_what_is_said_for_all_commands_is_meant_where_it_means_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load("fool", "attack=fgsm", environment={"CNNVIS_STEPS": "9"}).steps is None  # type: ignore[attr-defined]
    assert load("fool", environment={"CNNVIS_STEPS": "9"}).steps == 9  # type: ignore[attr-defined]
    monkeypatch.delenv("CNNVIS_STEPS", raising=False)
    jobs = tmp_path / "jobs.yaml"
    jobs.write_text("defaults: {steps: 3}\njobs:\n  - {command: fool, attack: fgsm}\n  - {command: dream}\n")
    assert [job.config.steps for job in make_plan(read_jobs(jobs), "out")] == [None, 3]  # type: ignore[attr-defined]
    jobs.write_text("jobs:\n  - {command: fool, kappa: 2, matrix: {attack: [pgd, carlini-wagner]}}\n")
    assert sorted(job.config.kappa for job in make_plan(read_jobs(jobs), "out")) == [0, 2]  # type: ignore[attr-defined]
    jobs.write_text("jobs:\n  - {command: fool, kappa: 2, matrix: {attack: [pgd, fgsm]}}\n")
    with pytest.raises(ConfigError, match=r"jobs\.1\.kappa: has no effect in any of its 2 jobs"):
        make_plan(read_jobs(jobs), "out")
    jobs.write_text("jobs:\n  - {command: fool, kappa: 2}\n")
    with pytest.raises(ConfigError, match="kappa has no effect with attack=pgd"):
        make_plan(read_jobs(jobs), "out")


def test_the_same_key_twice_is_said() -> None:
    assert problems("maximize", "steps=3", "rate=1", "steps=4") == ["steps stands twice on the command line."]
    assert problems("evolve", "rates={}", "rates.split=0.5") == ["rates stands twice on the command line."]
    assert parse_settings(["rates.split=1", "rates.weight=2"]) == {"rates": {"split": 1, "weight": 2}}


def test_variables_that_are_nearly_a_key() -> None:
    assert problems("dream", environment={"CNNVIS_STPES": "3"}) == [
        "CNNVIS_STPES: no key has this variable. Did you mean 'CNNVIS_STEPS'?"
    ]
    harmless = {"CNNVIS_HOME": "/x", "CNNVIS_DEVICE": "cpu", "CNNVIS_KAPPA": "3", "CNNVIS_DEBUG": "1", "CNNVIS_PROJECT": "p"}
    assert load("dream", environment=harmless) == load("dream")


def test_an_error_says_where_the_value_came_from(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("# mine\nsteps: none\nrate: 1\n")
    found = problems("fool", "restarts=0", config=str(file), environment={"CNNVIS_BATCH": "x"}, flags={"seed": -1})
    assert [problem.rpartition("; ")[2] for problem in found] == [
        "--seed)", f"{file}, line 2)", "command line)", "CNNVIS_BATCH)",
    ]  # fmt: skip
    assert problems("fool", config=str(file))[0].endswith(f"(given: 'none'; {file}, line 2)")


def test_a_grid_says_which_cell_is_wrong() -> None:
    assert problems("style", "grid.strength=[0.5, 7]") == ["config: grid: strength=7: at most 1 is wanted"]
    large = list(range(1, 30))
    assert "at most 400 cells" in problems("style", f"grid.steps={large}", f"grid.smallest={large}")[0]


def test_yaml_that_would_not_end(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    for text in ("steps: " + "[" * 3000, "a: &a [*a]", bomb, "? [1]\n: 2", "steps: " + "9" * 5000):
        file.write_text(text)
        with pytest.raises(UserError) as caught:
            load("maximize", config=str(file))
        assert all(len(line) < 400 for line in str(caught.value).splitlines())
