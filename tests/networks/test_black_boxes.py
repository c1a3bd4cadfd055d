"""Black boxes from outside, the HTTP one against a real server on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnvis_cli.engine.evolution import QueriesSpent
from cnnvis_cli.errors import RunError, UserError
from cnnvis_cli.networks import black_boxes
from tests.support.server import Server, answers, channels

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), np.uint8)


def test_http_sees_the_very_pixels(serve: Callable[..., Server]) -> None:
    box = black_boxes.Http(serve(answers).url)
    assert np.array_equal(box(IMAGES), channels(IMAGES))
    assert box.classes == ("red", "green", "blue")


def test_http_tries_again_and_then_says_why(serve: Callable[..., Server]) -> None:
    server = serve(lambda images: answers(images) if server.calls > 2 else (503, b"busy"))
    assert black_boxes.Http(server.url, retries=2, wait=0.01)(IMAGES).shape == (5, 3)
    down = serve(lambda images: (500, b"broken"))
    with pytest.raises(RunError, match=r"answered 500 .*after 2 tries"):
        black_boxes.Http(down.url, retries=1, wait=0.01)(IMAGES)
    assert down.calls == 2
    refused = serve(lambda images: (403, b"no"))
    with pytest.raises(RunError, match="answered 403 Forbidden, after 1 tries"):
        black_boxes.Http(refused.url, retries=5, wait=0.01)(IMAGES)


def test_http_that_died(serve: Callable[..., Server]) -> None:
    server = Server(answers)
    server.stop()
    with pytest.raises(RunError, match="cannot be reached"):
        black_boxes.Http(server.url, retries=1, wait=0.01)(IMAGES)


def test_http_too_slow(serve: Callable[..., Server]) -> None:
    server = serve(lambda images: time.sleep(0.5) or answers(images))
    with pytest.raises(RunError, match=r"not answered in 0.1 s \(timeout"):
        black_boxes.Http(server.url, timeout=0.1, retries=0)(IMAGES)


@pytest.mark.parametrize(
    "garbage", [b"<html>", b"[]", {"probs": []}, {"probabilities": [["a"]]}, {"probabilities": [[1], [1, 2]]}]
)
def test_http_garbage(serve: Callable[..., Server], garbage: Any) -> None:
    with pytest.raises(RunError, match="where JSON"):
        black_boxes.Http(serve(lambda images: garbage).url)(IMAGES)


def test_function_that_raises_exits_or_hangs() -> None:
    def quits(images: np.ndarray) -> np.ndarray:
        raise SystemExit(3)

    def hangs(images: np.ndarray) -> np.ndarray:
        time.sleep(1)
        return channels(images)

    def spoils(images: np.ndarray) -> np.ndarray:
        images[:] = 0
        return channels(images)

    with pytest.raises(RunError, match="f died: SystemExit"):
        black_boxes.Guarded(quits, "f", 5)(IMAGES)
    with pytest.raises(RunError, match=r"5 images in 0.05 s \(timeout"):
        black_boxes.Guarded(hangs, "f", 0.05)(IMAGES)
    before = IMAGES.copy()
    black_boxes.Guarded(spoils, "f", 5)(IMAGES)
    assert np.array_equal(IMAGES, before)


def test_function_needs_trust_and_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_for_evolve.py").write_text("number = 3\ndef judge(images):\n    return images.mean((1, 2)) / 255\n")
    with pytest.raises(UserError, match="--trust-code"):
        black_boxes.load_function("mine_for_evolve:judge", trust_code=False)
    assert black_boxes.load_function("mine_for_evolve:judge", trust_code=True)(IMAGES).shape == (5, 3)
    with pytest.raises(UserError, match="has no 'jury'"):
        black_boxes.load_function("mine_for_evolve:jury", trust_code=True)
    with pytest.raises(UserError, match="is a int"):
        black_boxes.load_function("mine_for_evolve:number", trust_code=True)


def test_budget_counts_images_and_batches_calls() -> None:
    sizes = []
    box = black_boxes.QueryLimit(lambda images: sizes.append(len(images)) or channels(images), queries=7, batch=2)
    box(IMAGES)
    assert (sizes, box.asked) == ([2, 2, 1], 5)
    with pytest.raises(QueriesSpent, match="7 queries is spent"):
        box(IMAGES)
    box(IMAGES[:2])


def test_cache_asks_once_also_in_the_next_run(tmp_path: Path) -> None:
    counted = black_boxes.QueryLimit(channels)
    path = tmp_path / "cache.jsonl"
    cache = black_boxes.Cache(counted, path)
    double = np.concatenate([IMAGES, IMAGES[:2]])
    assert np.array_equal(cache(double), channels(double))
    assert counted.asked == 5
    path.write_text(path.read_text() + '["cut of')  # killed while it wrote
    assert np.array_equal(black_boxes.Cache(counted, path)(double), channels(double))
    assert counted.asked == 5


def test_softmax() -> None:
    logits = np.array([[1000.0, 1000.0], [0.0, np.log(3)]])
    assert np.allclose(black_boxes.Softmax(lambda images: logits)(IMAGES[:2]), [[0.5, 0.5], [0.25, 0.75]])


def test_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "mean.onnx"
    make = onnx.helper
    graph = make.make_graph(
        [make.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0)],
        "mean",
        [make.make_tensor_value_info("x", 1, ["n", 3, 9, 9])],
        [make.make_tensor_value_info("m", 1, ["n", 3])],
    )
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8), path)
    box = black_boxes.Onnx(path, (0.5,), (2.0,))
    assert box.size == 9
    assert np.allclose(box(IMAGES), (channels(IMAGES) - 0.5) / 2, atol=1e-6)


def test_onnx_missing_or_broken(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match="no ONNX file"):
        black_boxes.Onnx(tmp_path / "x.onnx", (0.0,), (1.0,))
    (tmp_path / "y.onnx").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not an ONNX model"):
        black_boxes.Onnx(tmp_path / "y.onnx", (0.0,), (1.0,))


def test_what_is_no_evaluator() -> None:
    for text in ("cat", "model.pt"):
        with pytest.raises(UserError, match="neither a URL"):
            black_boxes.outside(text, trust_code=True, timeout=1, retries=0, mean=(0.0,), std=(1.0,))
