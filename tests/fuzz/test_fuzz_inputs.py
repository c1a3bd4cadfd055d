"""Objectives, files of weights, pictures and answers of evaluators that nobody would write by hand."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from cnnvis_cli.engine.attribution.targets import resolve_target
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objective_syntax import parse_numbers, parse_objectives
from cnnvis_cli.networks import black_boxes
from cnnvis_cli.networks.checkpoints import read_weights
from cnnvis_cli.networks.stylizers import load_stylizer
from cnnvis_cli.networks.trained import from_file
from cnnvis_cli.pictures.read import open_rgb
from cnnvis_cli.pictures.samples import PictureFile
from tests.fuzz.strategies import attempt, damaged, fuzz, texts, values


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


_TOKENS = (
    *("channel", "neuron", "layer", "direction", "class", "logit", "prob", ":", ":", ":", "*", "-", "+", " - ", " + ", ";"),
    *(",", "'", '"', "conv3_1", "conv4_1", "output", "fc", "0", "7", "0-63", "1e3", ".5", "1.2.3", "-1", "elephant", "²"),
    *(" ", "\0", "9" * 40, "x" * 5000, "[1,2]", "(", "|"),
)


@fuzz
@given(st.one_of(st.lists(st.sampled_from(_TOKENS), max_size=14).map("".join), texts))
def test_objectives(minivgg: Network, text: str) -> None:
    found = attempt(lambda: parse_objectives(text, minivgg))
    assert found is None or found
    attempt(lambda: parse_numbers(text, 64, "channel"))
    attempt(lambda: resolve_target(text, minivgg, torch.zeros(1, 3, 64, 64)) if text != "predicted" else None)


def _saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


_STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
_CARD = {"architecture": "lenet", "classes": '["a", "b"]', "size": "28", "mean": "[0.5]", "std": "[0.5]"}
_PAINTER = {"kind": "stylizer", "shape": '{"styles": 1, "width": 2, "blocks": 1}', "styles": "[]"}
WEIGHTS = [
    _saved(_STATE),
    _saved(_STATE, _use_new_zipfile_serialization=False),
    _saved({"state_dict": _STATE, "optimizer": {"lr": 1}, "args": {"x": {1, 2}}, "module": torch.nn.Linear(2, 2)}),
    save(_STATE),
    save(_STATE, _CARD),
    save(_STATE, _PAINTER),
]


@fuzz
@given(damaged(WEIGHTS), st.sampled_from(["w.pth", "w.safetensors"]))
def test_files_of_weights(folder: Path, data: bytes, name: str) -> None:
    file = folder / name
    file.write_bytes(data)
    attempt(lambda: read_weights(file))
    attempt(lambda: from_file(file))
    attempt(lambda: load_stylizer(str(file), torch.device("cpu")))


@fuzz
@given(st.dictionaries(st.text(max_size=8), values, max_size=4), st.sampled_from(["", "state_dict", "_modules", "model"]))
def test_contents_of_weights(folder: Path, content: dict[str, Any], key: str) -> None:
    try:
        torch.save({key: content} if key else content, folder / "c.pth")
    except (ValueError, OverflowError, RuntimeError, UnicodeEncodeError):
        return
    attempt(lambda: read_weights(folder / "c.pth"))


def _picture(kind: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 14, 3), np.uint8))
    picture = picture.convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)
    picture.save(buffer, kind)
    return buffer.getvalue()


PICTURES = [
    *(_picture(kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")),
    *(_picture("PNG", mode) for mode in ("P", "LA", "RGBA", "1", "I;16")),
    *(_picture("GIF", "P"), _picture("TIFF", "CMYK"), _picture("TIFF", "F"), _picture("JPEG", "L")),
]


@fuzz
@given(damaged(PICTURES), st.sampled_from(["p.png", "p.jpg", "p.tif", "p.gif", "p.webp"]))
def test_pictures(folder: Path, data: bytes, name: str) -> None:
    file = folder / name
    file.write_bytes(data)
    picture = attempt(lambda: open_rgb(PictureFile(name, file)))
    assert picture is None or picture.mode == "RGB"


class _Answering(black_boxes.Http):
    """As if the endpoint had sent these bytes."""

    def __init__(self, body: bytes) -> None:
        super().__init__("http://localhost/", retries=0)
        self.body = body

    def _post(self, body: bytes) -> bytes:
        return self.body


IMAGES = np.zeros((2, 4, 4, 3), np.uint8)
_ANSWERS = [json.dumps({"probabilities": [[0.2, 0.8], [1, 0]], "classes": ["a", "b"]}).encode(), b'{"probabilities": [[NaN]]}']


@fuzz
@given(
    st.one_of(
        damaged(_ANSWERS),
        values.map(lambda value: json.dumps(value).encode()),
        st.builds(lambda p, c: json.dumps({"probabilities": p, "classes": c}).encode(), values, values),
    )
)
def test_answers_of_evaluators(body: bytes) -> None:
    for box in (_Answering(body), black_boxes.Softmax(_Answering(body))):
        answer = attempt(lambda box=box: black_boxes.QueryLimit(box)(IMAGES))  # type: ignore[misc]
        assert answer is None or (answer.shape[0] == 2 and np.isfinite(answer).all())


@fuzz
@given(texts | texts.map(lambda text: f"http://{text}") | texts.map(lambda text: f"http://localhost:{text}"))
def test_addresses_of_evaluators(text: str) -> None:
    attempt(lambda: black_boxes.outside(text, trust_code=False, timeout=1, retries=0, mean=(0.0,), std=(1.0,)))


@fuzz
@given(st.lists(st.one_of(damaged(_ANSWERS), values.map(lambda value: json.dumps(["k", value]).encode())), max_size=4))
def test_caches_of_evaluators(folder: Path, lines: list[bytes]) -> None:
    file = folder / "cache"
    file.write_bytes(b"\n".join(lines))
    attempt(lambda: black_boxes.Cache(lambda images: np.full((len(images), 2), 0.5), file)(IMAGES))
