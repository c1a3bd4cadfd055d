"""Files of weights and evaluators that are not what they should be: one line each, in bounded time and memory."""

from __future__ import annotations

import json
import socket
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cnnvis_cli.errors import RunError, UserError
from cnnvis_cli.networks import black_boxes
from cnnvis_cli.networks.checkpoints import read_weights
from cnnvis_cli.networks.spec import described
from cnnvis_cli.networks.stylizers import load_stylizer
from cnnvis_cli.networks.trained import from_file
from tests.support.server import Server

IMAGES = np.zeros((2, 4, 4, 3), np.uint8)


def circular() -> dict[str, Any]:
    state: dict[str, Any] = {"epoch": 3}
    state["model"] = state
    return state


def wide() -> dict[str, Any]:
    """The same thousand keys at every level: 10^12 paths."""
    state: dict[str, Any] = {"epoch": 3}
    for _ in range(4):
        state = {f"k{n}": state for n in range(1000)}
    return state


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (circular(), "holds no state_dict. It holds: epoch, model"),
        (wide(), "holds no state_dict"),
        ([], "holds no state_dict"),
        (3, "holds no state_dict"),
        ({"x" * 5000: 1}, "holds no state_dict"),
        ({"w": torch.empty(3, 3, device="meta")}, "no values"),
        ({"w": torch.zeros(1).expand(2**20, 2**20)}, "claims 1,099,511,627,776 values"),
        ({"w": torch.full((2,), float("nan"))}, "holds NaN"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "complex"),
    ],
)
def test_states_that_are_none(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "w.pth"
    torch.save(content, file)
    with pytest.raises(UserError, match=message) as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_sparse_weights_are_read(tmp_path: Path) -> None:
    torch.save({"w": torch.eye(3).to_sparse(), "h": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "w.pth")
    state = read_weights(tmp_path / "w.pth")
    assert torch.equal(state["w"], torch.eye(3))
    assert state["h"].dtype == torch.float32


@pytest.mark.parametrize("text", [b"", b"hello", b"<html>", b"w: [1, 2]\n", b"\x80\x02", b"PK\x03\x04", b"\xff" * 600])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_weights(tmp_path: Path, text: bytes, suffix: str) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_bytes(text)
    for read in (read_weights, from_file, lambda path: load_stylizer(str(path), torch.device("cpu"))):
        with pytest.raises(UserError) as caught:
            read(file)
        assert "\n" not in str(caught.value)


def test_a_few_bytes_do_not_ask_for_all_memory(tmp_path: Path) -> None:
    """LONG_BINPUT of a large number: an unpickler with an array for its memo makes room for all that are below it."""
    file = tmp_path / "w.pth"
    file.write_bytes(b"\x80\x02cos\nsystem\nr" + (2**26).to_bytes(4, "little") + b".")
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="not a file of weights"):
            read_weights(file)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "card",
    [
        {"architecture": "lenet", "classes": "3", "size": "28", "mean": "[0.5]", "std": "[0.5]"},
        {"architecture": "lenet", "classes": '["a"]', "size": "28e9", "mean": "[0.5]", "std": "[0.5]"},
        {"architecture": "lenet", "classes": '["a"]', "size": "28", "mean": "[" * 9000, "std": "[0.5]"},
        {"architecture": "lenet", "classes": '["a"]', "size": "28", "mean": "[0.5]", "std": "[0]"},
        {"kind": "stylizer", "shape": '{"width": 100000000}', "styles": "[]"},
        {"kind": "stylizer", "shape": "[1]", "styles": "[]"},
        {"kind": "stylizer"},
    ],
)
def test_cards_that_are_damaged(tmp_path: Path, card: dict[str, str]) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors", metadata=card)
    with pytest.raises(UserError, match="damaged card"):
        load_stylizer(str(tmp_path / "w.safetensors"), torch.device("cpu")) if "kind" in card else from_file(
            tmp_path / "w.safetensors"
        )


def test_words_of_others_in_a_file_are_none_of_ours(tmp_path: Path) -> None:
    said = {"architecture": "mobilenetv2", "classes": "1000", "format": "pt"}
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors", metadata=said)
    assert described(tmp_path / "w.safetensors") is None


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://", "http://:80", "http://a:99999/", "http://a/ü", "http://a b/", "http://a\n/"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UserError, match="is no address"):
        black_boxes.outside(url, trust_code=False, timeout=1, retries=0, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 100_000,
        b'{"probabilities": ' + b"[" * 100_000,
        b'{"probabilities": [[1' + b"0" * 400 + b"], [1]]}",
        b'{"probabilities": [[1' + b"0" * 5000 + b"], [1]]}",
        b'{"probabilities": [[NaN, 1], [0, 1]]}',
        b'{"probabilities": [[1e999, 1], [0, 1]]}',
        b'{"probabilities": [[], []]}',
        b'{"probabilities": {"a": 1}}',
        b'{"probabilities": 3}',
        b'{"probabilities": [[1, 2], [3]]}',
        b"\xff\xfe",
        b"",
        b"[]",
        b"null",
    ],
)
def test_answers_that_are_none(serve: Callable[..., Server], answer: bytes) -> None:
    box = black_boxes.QueryLimit(black_boxes.Http(serve(lambda images: answer).url, retries=0))
    with pytest.raises(RunError) as caught:
        box(IMAGES)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [None, "x", [[1], [2, 3]], 3, object(), [["a"], ["b"]], [[10**400], [1]], np.ones((2, 0))])
def test_functions_that_answer_anything(value: Any) -> None:
    for box in (black_boxes.QueryLimit(lambda images: value), black_boxes.Softmax(lambda images: value)):
        with pytest.raises(RunError, match="the evaluator answered"):
            box(IMAGES)


def test_redirects_are_named_and_not_followed(serve: Callable[..., Server]) -> None:
    server = serve(lambda images: (302, b""))
    with pytest.raises(RunError, match="redirects to nowhere: give that address, after 1 tries"):
        black_boxes.Http(server.url, retries=3, wait=0.01)(IMAGES)
    assert server.calls == 1


def test_an_answer_that_drips_has_the_time_of_one_answer() -> None:
    """Each byte is in time, and all of them would never be."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not stop.wait(0.05):
                    connection.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(RunError, match=r"has not answered in 0.2 s"):
                black_boxes.Http(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.2, retries=0)(IMAGES)
        finally:
            stop.set()
            thread.join()


def test_a_cache_that_holds_anything(tmp_path: Path) -> None:
    cache = tmp_path / "c"
    rows = ['["a"]', "[[1], [2]]", '["k", 3]', '["k", [NaN]]', "[" * 50_000, "null", json.dumps(["k", [10**400]])]
    cache.write_text("\n".join(rows) + "\n")
    box = black_boxes.Cache(lambda images: np.full((len(images), 2), 0.5), cache)
    assert not box.known
    assert box(IMAGES).shape == (2, 2)
    cache.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot read the cache"):
        black_boxes.Cache(lambda images: images, cache)
