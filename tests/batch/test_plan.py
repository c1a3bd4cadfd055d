"""From a jobs file to a plan: defaults, includes, matrices, names, paths, and all that can be wrong with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnvis_cli.batch.jobsfile import read_jobs
from cnnvis_cli.batch.plan import Planned, make_plan, parse_shard
from cnnvis_cli.config.load import named_configs
from cnnvis_cli.config.maximize import MaximizeConfig
from cnnvis_cli.errors import ConfigError, UserError


def plan(tmp_path: Path, text: str, *settings: str, **more: bool) -> list[Planned]:
    path = tmp_path / "jobs.yaml"
    path.write_text(text)
    return make_plan(read_jobs(path), str(tmp_path / "out"), settings, **more)


def problems(tmp_path: Path, text: str, *settings: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, text, *settings)
    return caught.value.problems


def configs(jobs: list[Planned]) -> list[MaximizeConfig]:
    assert all(isinstance(job.config, MaximizeConfig) for job in jobs)
    return [job.config for job in jobs]  # type: ignore[misc]


def test_matrix_is_the_product_and_zip_goes_side_by_side(tmp_path: Path) -> None:
    jobs = plan(
        tmp_path,
        """
        jobs:
          - command: maximize
            matrix: {seed: {range: [0, 2]}, size: [32, 48]}
            zip: {steps: [1, 2], objective: ["class:1", "class:2"]}
        """,
    )
    points = {(c.seed, c.size, c.steps, c.objective) for c in configs(jobs)}
    assert points == {(s, z, n, f"class:{n}") for s in (0, 1) for z in (32, 48) for n in (1, 2)}
    assert len({job.sidecar for job in jobs}) == 8


def test_precedence_is_command_line_job_config_defaults(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("steps: 7\nrate: 0.5\nnoise: 0.5\n")
    text = "defaults: {steps: 5, rate: 0.1, size: 32}\njobs: [{command: maximize, config: own.yaml, rate: 0.25}]"
    (config,) = configs(plan(tmp_path, text, "noise=0.125"))
    assert (config.size, config.steps, config.rate, config.noise) == (32, 7, 0.25, 0.125)


def test_a_command_may_stand_among_the_defaults(tmp_path: Path) -> None:
    jobs = plan(tmp_path, "defaults: {command: maximize, size: 32}\njobs: [{seed: 1}, {command: dream, image: sample:chelsea}]")
    assert [job.command for job in jobs] == ["maximize", "dream"]
    assert configs(jobs[:1])[0].size == 32


def test_a_default_is_not_called_unused_where_a_job_could_not_be_read(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "defaults: {size: 32}\njobs: [{command: maximise}]")
    assert "Did you mean 'maximize'" in problem
    (problem,) = problems(tmp_path, "defaults: {command: maximize, sizee: 32}\njobs: [{seed: 1}]")
    assert "defaults.sizee: no job's command has this key" in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defaults: {command: maximise}\njobs: [{seed: 1}, {seed: 2}]", "defaults.command: no command 'maximise'"),
        ("defaults: {command: dream}\njobs: [{command: maximize}]", "defaults.command: every job names its own"),
        ("jobs: [{matrix: {command: [dream, maximize]}}]", "a job has one command"),
        ("defaults: {command: dream}\njobs: [3]", "must be a mapping of keys to values"),
    ],
)
def test_what_is_wrong_with_a_command_is_said_once(tmp_path: Path, text: str, said: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert said in problem


def test_a_default_of_another_file_is_blamed_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("jobs: [{seed: 1}]")
    (problem,) = problems(tmp_path, "defaults: {command: stlye}\ninclude: [more.yaml]")
    assert problem.startswith("jobs.yaml: defaults.command")


def test_an_empty_command_is_none(tmp_path: Path) -> None:
    (job,) = plan(tmp_path, "defaults: {command: maximize}\njobs: [{command: '', seed: 1}]")
    assert job.command == "maximize"


def test_environment_stands_between_file_and_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNVIS_STEPS", "9")
    text = "jobs: [{command: maximize, steps: 3}]"
    assert configs(plan(tmp_path, text))[0].steps == 9
    assert configs(plan(tmp_path, text, "steps=11"))[0].steps == 11


def test_defaults_go_only_to_commands_that_have_the_key(tmp_path: Path) -> None:
    text = "defaults: {samples: 2}\njobs: [{command: maximize}, {command: saliency}]"
    assert plan(tmp_path, text)[1].config.model_dump()["samples"] == 2
    (problem,) = problems(tmp_path, text.replace("samples", "smaples"))
    assert "defaults.smaples" in problem


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "cat.png").touch()
    (inner / "more.yaml").write_text("jobs: [{command: saliency, image: cat.png}]")
    monkeypatch.chdir("/")
    (job,) = plan(tmp_path, "include: inner/more.yaml")
    assert job.config.model_dump()["image"] == (str((inner / "cat.png").resolve()),)
    (tmp_path / "f.yaml").write_text("out: here\njobs: [{command: maximize}]")
    assert read_jobs(tmp_path / "f.yaml").out == str(tmp_path / "here")


def test_weights_after_a_model_are_relative_to_the_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w").mkdir()
    for name in ("some.pth", "odd@2x.png", "at@2.pth"):
        (tmp_path / "w" / name).touch()
    monkeypatch.chdir("/")
    there = (tmp_path / "w").resolve()
    text = "jobs: [{command: maximize, seen_by: lenet@w/some.pth}, {command: dream, image: w/odd@2x.png}, "
    jobs = plan(tmp_path, text + f"{{command: fool, also: ['squeezenet1_0@{there / 'some.pth'}']}}]")
    found = {job.command: job.config.model_dump() for job in jobs}
    assert found["maximize"]["seen_by"] == f"lenet@{there / 'some.pth'}"
    assert found["dream"]["image"] == str(there / "odd@2x.png")
    assert found["fool"]["also"] == (f"squeezenet1_0@{there / 'some.pth'}",)
    (job,) = plan(tmp_path, "jobs: [{command: maximize, seen_by: lenet@w/at@2.pth}]")
    assert job.config.model_dump()["seen_by"] == f"lenet@{there / 'at@2.pth'}"
    missing = problems(tmp_path, "jobs: [{command: maximize, seen_by: lenet@/nowhere.pth}]")
    assert missing == ["jobs.yaml: jobs.1.seen_by: no file 'lenet@/nowhere.pth'"]


def test_files_of_a_glob_become_jobs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").touch()
    jobs = plan(tmp_path, "jobs: [{command: saliency, matrix: {image: {files: '*.png'}}}]")
    assert sorted(Path(job.config.model_dump()["image"][0]).name for job in jobs) == ["a.png", "b.png"]
    assert len({job.name for job in jobs}) == 2


def test_a_name_is_filled_in_and_extended_only_where_needed(tmp_path: Path) -> None:
    text = "jobs: [{command: maximize, name: '{model}-{seed}', matrix: {seed: [3, 4], model: [lenet]}}]"
    assert [job.name for job in plan(tmp_path, text)] == ["lenet-3", "lenet-4"]
    told, untold = "objective: ['class:1', 'class:2']", "steps: [1, 2]"
    assert "objective" not in plan(tmp_path, f"jobs: [{{command: maximize, matrix: {{{told}}}}}]")[0].name
    assert plan(tmp_path, f"jobs: [{{command: maximize, matrix: {{{untold}}}}}]")[0].name.endswith("_steps-1")
    (problem,) = problems(tmp_path, "jobs: [{command: maximize, name: '{nothing}', matrix: {seed: [1]}}]")
    assert "nothing" in problem


def test_names_do_not_change_when_a_matrix_grows(tmp_path: Path) -> None:
    few = {job.name for job in plan(tmp_path, "jobs: [{command: maximize, matrix: {seed: [1, 2]}}]")}
    more = {job.name for job in plan(tmp_path, "jobs: [{command: maximize, matrix: {seed: [0, 1, 2, 3]}}]")}
    assert few < more


def test_jobs_of_one_network_are_neighbours(tmp_path: Path) -> None:
    jobs = plan(tmp_path, "jobs: [{command: maximize, matrix: {seed: [0, 1, 2], model: [lenet, minivgg]}}]")
    assert [job.network[0] for job in jobs] == ["lenet"] * 3 + ["minivgg"] * 3


def test_all_mistakes_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    lines = problems(
        tmp_path,
        """
        jobz: 1
        jobs:
          - {command: maximise}
          - {steps: 3}
          - {command: maximize, config: nowhere}
          - {command: maximize, matrix: {seed: 3}}
          - {command: maximize, zip: {seed: [1, 2], steps: [1]}}
        """,
    )
    assert len(lines) == 6
    assert "'maximize'" in next(line for line in lines if "jobs.1" in line)
    lines = problems(tmp_path, "jobs: [{command: maximize, stepz: 3}, {command: maximize, matrix: {seed: [1, x, -1]}}]")
    assert len(lines) == 3
    assert "jobs.1.stepz: unknown key. Did you mean 'steps'" in lines[0]
    assert "jobs.2 [seed=x].seed" in lines[1]


def test_a_mistake_that_all_points_share_is_told_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "jobs: [{command: maximize, steps: 0, matrix: {seed: {range: [0, 50]}}}]")) == 1


def test_a_circle_of_includes_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("include: [jobs.yaml]")
    (problem,) = problems(tmp_path, "include: [other.yaml]")
    assert "jobs.yaml -> other.yaml -> jobs.yaml" in problem


def test_two_jobs_on_one_file_are_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "jobs: [{command: maximize, name: a}, {command: maximize, name: a, steps: 3}]")
    assert "jobs.1" in problem
    assert "jobs.2" in problem
    assert "would both write" in problem
    assert "same job" in problems(tmp_path, "jobs: [{command: maximize}, {command: maximize}]")[0]


def test_a_million_jobs_want_a_yes_and_are_not_even_made(tmp_path: Path) -> None:
    text = "jobs: [{command: maximize, matrix: {seed: {range: [0, 1000000000]}}}]"
    with pytest.raises(UserError, match=r"1,000,000,000 jobs.*--yes"):
        plan(tmp_path, text)
    with pytest.raises(UserError, match="a plan holds at most"):
        plan(tmp_path, text, many=True)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("matrix: {seed: {range: null}}", "a range is"),
        ("matrix: {seed: {range: [0, 5, 0]}}", "a range is"),
        ("matrix: {seed: {range: [true]}}", "a range is"),
        ("matrix: {seed: {range: [1, 2, 3, 4]}}", "a range is"),
        ("matrix: {seed: {range: [0, 1000000000000000000000000000000]}}", "more values than can be counted"),
        ('matrix: {start: {files: "**.png"}}', "no pattern of files"),
        ('matrix: {start: {files: ""}}', "no pattern of files"),
        ('name: "{seed:>2000000000}"', "takes a width"),
        ('name: "{model[x]}"', "no key model\\[x\\]"),
        ('name: "{model.__class__}"', "no key"),
        ('name: "{seed!r}"', "takes a width"),
        ('name: "{seed"', "cannot be filled in"),
        ('name: "{model:d}"', "cannot be filled in"),
        ('name: "{model:>99}{model:>99}{model:>99}"', "longer than 200 bytes"),
        ('weights: "~nobody-of-that-name/x.pth"', "no file"),
        (f"config: {'x' * 5000}", "no config file"),
        ("config: [1, 2]", "no config file"),
        (f"image: {'x/' * 5000}", "unknown key"),
    ],
)
def test_values_that_are_no_jobs_end_in_a_line(tmp_path: Path, job: str, message: str) -> None:
    found = problems(tmp_path, f"jobs: [{{command: maximize, {job}}}]")
    assert re.search(message, found[0]), found
    assert all(len(line) < 400 for line in found)


@pytest.mark.parametrize("text", ["include: 3", "include: [[a]]", "include: {a: b}", 'include: "a\\0b"', "include: [a.yaml]"])
def test_includes_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text("include: [b.yaml, b.yaml]\n")
    (tmp_path / "b.yaml").write_text("include: [" + ", ".join(f"c{n % 2}.yaml" for n in range(600)) + "]\n")
    (tmp_path / "c0.yaml").write_text("jobs: []")
    (tmp_path / "c1.yaml").write_text("jobs: []")
    assert "include" in problems(tmp_path, text)[0]


def test_missing_files_are_told_before_anything_runs(tmp_path: Path) -> None:
    lines = problems(tmp_path, "jobs: [{command: saliency, image: cat.png}, {command: maximize, weights: w.pth}]")
    assert ["cat.png" in lines[0], "w.pth" in lines[1]] == [True, True]


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_shards_are_counted_from_one(shard: str) -> None:
    with pytest.raises(UserError, match="I/N"):
        parse_shard(shard)


@pytest.mark.parametrize("name", [name for name in named_configs() if name.startswith("jobs/")])
def test_bundled_job_files_are_right(name: str) -> None:
    assert make_plan(read_jobs(named_configs()[name]), "runs")
