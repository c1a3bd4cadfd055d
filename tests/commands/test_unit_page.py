"""`cnnvis maximize show=unit` and facets: pictures of a unit beside those that excite it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.pictures.samples import sample
from tests.support.tables import rows

Run = Callable[..., Any]


def test_the_page_of_a_unit_shows_what_raises_it_what_lowers_it_and_its_patches(
    cnnvis: Run, collection: Path, minivgg: Network
) -> None:
    wanted = "objective=channel:relu2_1:3; class:elephant"
    ran = cnnvis("maximize", wanted, "show=unit", f"pictures={collection}", "steps=6", "size=48", "seen_by=none")
    assert ran.code == 0, ran.err
    raised, lowered, *classes = ran.sidecar["scores"]["pictures"]
    assert lowered["objective"] == "-1*channel:conv2_1:3"  # below a rectifier's zero there is nothing to see
    assert classes[1]["objective"] == "-1*class:elephant"
    for row in (raised, lowered, *classes):
        assert row["value"] > row["start"]
    table = rows(next(path for path in ran.files if path.suffix == ".csv"))
    assert {row["unit"] for row in table} == {"3", str(minivgg.class_index("elephant"))}
    assert {row["right"] for row in table if row["unit"] != "3"} == {"100"}  # a class sees the whole file
    assert [float(row["value"]) for row in table[:6]] == sorted((float(row["value"]) for row in table[:6]), reverse=True)


def test_pages_are_of_single_units(cnnvis: Run) -> None:
    for settings, says in (
        (["objective=layer:relu2_1"], "show=unit wants one unit"),
        (["objective=channel:relu2_1:3", "diversity=2"], "show=unit raises and lowers"),
    ):
        ran = cnnvis("maximize", "show=unit", "steps=2", *settings)
        assert ran.code == 2
        assert says in ran.err


def test_facets_stand_beside_their_clusters(cnnvis: Run, collection: Path) -> None:
    settings = ["preset=nguyen2016", f"pictures={collection}", "facets=3", "size=64", "steps=4"]
    ran = cnnvis("maximize", "objective=channel:relu1_1:4", *settings)
    assert ran.code == 0, ran.err
    facets = ran.sidecar["facets"]
    members = [name for facet in facets for name in facet["members"]]
    assert len(facets) == 3
    assert len(members) == len(set(members)) >= 7  # half of the pictures, each in one cluster
    assert [facet["pictures"] for facet in facets] == sorted((facet["pictures"] for facet in facets), reverse=True)
    assert 0 < ran.sidecar["scores"]["distance_between"] <= 1
    assert sample("chelsea").address not in members


def test_a_facet_of_a_class_says_what_its_start_was_seen_as(cnnvis: Run, collection: Path) -> None:
    ran = cnnvis("maximize", "objective=class:elephant", "preset=nguyen2016", f"pictures={collection}", "facets=2", "steps=2")
    assert ran.code == 0, ran.err
    for row in ran.sidecar["scores"]["pictures"]:
        assert 0 <= row["start_seen_probability"] <= 1
        assert row["seen_by"] == "minivgg_robust"
    noise = cnnvis("maximize", "objective=class:elephant", "preset=simonyan2014", "steps=2", "name=noise")
    assert "start_seen_probability" not in noise.sidecar["scores"]
