"""The record beside a result: what is written is what is read, and no file of any content breaks the reader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnvis_cli.jobs.record import Record, parse_record, read_record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from([*Record.__dataclass_fields__, "other"])


def test_numbers_stay_numbers_and_details_stand_at_the_top_level(tmp_path: Path) -> None:
    record = Record("maximize", "a", {"steps": 3}, "hash", seed=2, trace=[np.float32(0.5), float("nan")], stopped=["steps"])
    record.scores["value"] = torch.tensor(1.5)
    record.note(norms=torch.ones(2))
    record.write(tmp_path / "a.json")
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["scores"] == {"value": 1.5}
    assert values["trace"] == [0.5, None]
    assert values["norms"] == [1.0, 1.0]
    assert "warnings" not in values, "what says nothing is left out"
    again = read_record(tmp_path / "a.json")
    assert again is not None
    assert (again.stopped, again.seed, again.details) == (["steps"], 2, {"norms": [1.0, 1.0]})


def test_what_is_shown_is_named_once() -> None:
    record = Record("maximize", "a", {}, "hash")
    record.shows(layers=["b", "a"], classes=["x"])
    record.shows(layers=["a", "c"])
    assert (record.layers, record.classes) == (["b", "a", "c"], ["x"])


@settings(max_examples=200, deadline=None)
@given(values=st.dictionaries(FIELDS, JSON, max_size=6))
def test_fields_of_any_type_are_read_or_left_out(values: dict) -> None:
    record = parse_record(json.dumps(values).encode())
    if isinstance(values.get("command"), str) and isinstance(values.get("config_hash"), str):
        assert record is not None
        assert isinstance(record.config, dict)
        assert isinstance(record.scores, dict)
        assert all(isinstance(name, str) for name in record.files)
        json.dumps(record.as_json(), allow_nan=False)
    else:
        assert record is None


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=40) | st.just(b"[" * 100_000))
def test_bytes_that_are_no_record(data: bytes) -> None:
    assert parse_record(data) is None
