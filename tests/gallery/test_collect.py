"""What the page is told of results: the command line that repeats them, layers, classes, tiles, traces."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from cnnvis_cli.config.load import build_config, load_config
from cnnvis_cli.errors import UserError
from cnnvis_cli.gallery.collect import command_line, item_of, sidecars
from cnnvis_cli.jobs.record import config_hash
from cnnvis_cli.registry import COMMANDS, config_class
from tests.support.results import put


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_command_line_leads_back_to_the_very_config(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = config_class(command)
    awkward = {"name": "a: b # 'c' \"d\" [e", "seed": 7}
    config = build_config(schema, awkward)
    line = command_line(command, config.model_dump(mode="json"), config_hash(command, config), Path("x.json"))
    words = shlex.split(line)
    assert words[:2] == ["cnnvis", command]
    assert "-c" not in words
    assert load_config(schema, command, settings=words[2:], environment={}) == config


def test_the_command_line_keeps_a_preset_short() -> None:
    config = build_config(config_class("maximize"), {"preset": "simonyan2014", "steps": 5, "objective": "class:a; class:b"})
    line = command_line("maximize", config.model_dump(mode="json"), config_hash("maximize", config), Path("x.json"))
    assert shlex.split(line)[2:] == ["objective=class:a; class:b", "preset=simonyan2014", "steps=5"]


def test_what_settings_cannot_repeat_is_repeated_from_its_json() -> None:
    assert command_line("maximize", {"steps": 1}, "another", Path("a b.json")) == "cnnvis maximize -c 'a b.json'"
    assert command_line("gone", {}, "", Path("x.json")) == "cnnvis gone -c x.json"


def test_layers_classes_tiles_and_traces(tmp_path: Path) -> None:
    rows = [{"objective": f"channel:conv3_1:{n}", "value": n / 2} for n in (4, 5)]
    put(
        tmp_path / "a b",
        "sheet",
        config={"objective": "channel:conv3_1:4-5"},
        scores={"mean_value": 2.0, "pictures": rows, "best": {"value": 1.0}},
        asked=[[{"kind": "channel", "layer": "conv3_1", "index": n}] for n in (4, 5)],
        layers=["conv3_1"],
        tiles=[[0, 0, 8, 8], [8, 0, 16, 8]],
        trace=[[float(n) for n in range(1000)], [1.0, None, 2.0]],
    )
    put(tmp_path, "single", config={"objective": "class:1"}, classes=["wild cat", "ant"])
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    found = [item_of(path, tmp_path / "index.html") for path in sidecars(tmp_path)]
    one, sheet = sorted((item for item in found if isinstance(item, dict)), key=lambda item: -len(item["name"]))
    assert [item for item in found if isinstance(item, str)] == ["no JSON: its writing was cut off, or it is damaged"]
    assert one["classes"] == ["wild cat", "ant"]
    assert sheet["layers"] == ["conv3_1"]
    assert [(tile["channel"], tile["box"]) for tile in sheet["tiles"]] == [(4, [0, 0, 8, 8]), (5, [8, 0, 16, 8])]
    assert sheet["scores"] == {"mean value": 2.0, "best.value": 1.0}
    assert sheet["files"] == ["a%20b/sheet.png"]
    assert [(line[0], line[-1]) for line in sheet["traces"]] == [(0.0, 999.0), (1.0, 2.0)]
    assert len(sheet["traces"][0]) == 120
    assert sheet["config"].keys() == {"name", "objective"}


def test_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        sidecars(tmp_path / "none")


def test_a_card_shows_what_came_of_it_and_the_figure_that_tells_most(tmp_path: Path) -> None:
    put(tmp_path, "f", command="fool", scores={"probability_before": 0.9, "margin": 0.1, "probability": 0.7})
    sidecar = tmp_path / "f.json"
    record = json.loads(sidecar.read_text())
    picture = record["files"][0]
    (tmp_path / "f-compare.png").write_bytes((tmp_path / picture).read_bytes())
    sidecar.write_text(json.dumps(record | {"files": [picture, "f-compare.png"]}))
    item = item_of(sidecar, tmp_path / "index.html")
    assert isinstance(item, dict)
    assert item["telling"] == "probability"
    assert item["files"] == ["f-compare.png", picture]


def test_numbers_beyond_all_others_leave_a_gap_in_a_trace(tmp_path: Path) -> None:
    put(tmp_path, "a", trace=[1.5, 10**400, float("inf"), "word", 2])
    item = item_of(tmp_path / "a.json", tmp_path / "index.html")
    assert isinstance(item, dict)
    assert item["traces"] == [[1.5, None, None, None, 2.0]]
