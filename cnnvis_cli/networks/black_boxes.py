"""Black boxes from outside: a Python function, an ONNX file, an HTTP endpoint. And what stands before them: budget and cache.

All of them are `BlackBox`s: from images (N, H, W, 3) uint8, sRGB, to probabilities (N, classes).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import importlib
import io
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnvis_cli.engine.evolution import BlackBox, QueriesSpent
from cnnvis_cli.engine.pixels import LUMA
from cnnvis_cli.errors import RunError, UserError

_MAX_ANSWER = 256 * 2**20  # bytes


def load_function(place: str, *, trust_code: bool) -> BlackBox:
    """`package.module:function`, taking (N, H, W, 3) uint8 and returning (N, classes) probabilities. Runs the user's code."""
    if not trust_code:
        raise UserError(f"evaluator={place} would run your Python code. Add --trust-code if you trust it.")
    module, _, name = place.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise UserError(f"evaluator={place} failed to load: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if not callable(function):
        raise UserError(f"evaluator={place} is a {type(function).__name__}, not a function.")
    return function


class Guarded:
    """A function called in a thread of its own: what it raises, and that it takes longer than `timeout` s, is a RunError."""

    def __init__(self, evaluate: BlackBox, name: str, timeout: float) -> None:
        self.evaluate, self.name, self.timeout = evaluate, name, timeout

    def __call__(self, images: np.ndarray) -> np.ndarray:
        answer: dict[str, Any] = {}

        def call() -> None:
            try:
                answer["value"] = self.evaluate(images.copy())
            except BaseException as error:  # also SystemExit: it is the evaluator that ends, not we
                answer["error"] = error

        thread = threading.Thread(target=call, daemon=True)  # a hanging one must not keep the process
        thread.start()
        thread.join(self.timeout)
        if thread.is_alive():
            raise RunError(f"{self.name} has not answered for {len(images)} images in {self.timeout:g} s (timeout=...).")
        if isinstance(error := answer.get("error"), RunError):
            raise error
        if error is not None:
            raise RunError(f"{self.name} died: {type(error).__name__}: {error}.") from error
        return answer["value"]


class Onnx:
    """An ONNX classifier with one input of images, (N, C, H, W) or (N, H, W, C), and class scores as its first output.

    `mean`, `std`: of the pixels in [0, 1], per channel. One-channel models get the luma.
    """

    def __init__(self, path: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError("an ONNX evaluator needs onnxruntime: pip install 'cnnvis[onnx]'") from None
        if not path.is_file():
            raise UserError(f"no ONNX file '{path}'.")
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UserError(f"{path} is not an ONNX model that can be read: {str(error).splitlines()[0][:200]}") from None
        entry = self.session.get_inputs()[0]
        if len(self.session.get_inputs()) != 1 or len(entry.shape) != 4:
            raise UserError(f"{path} must have one input of four dimensions; it has {entry.shape}.")
        self.input, shape = entry.name, entry.shape
        self.channels_last = shape[3] in (1, 3) and shape[1] not in (1, 3)
        self.channels = shape[3] if self.channels_last else shape[1] if shape[1] in (1, 3) else 3
        side = shape[1] if self.channels_last else shape[2]
        self.size = side if isinstance(side, int) else None
        self.single = shape[0] == 1
        self.mean, self.std = np.array(mean, np.float32), np.array(std, np.float32)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        values = images.astype(np.float32) / 255
        if self.channels == 1:
            values = values @ np.array(LUMA, np.float32)[:, None]
        values = (values - self.mean) / self.std
        values = values if self.channels_last else values.transpose(0, 3, 1, 2)
        batches = np.split(values, len(values)) if self.single else [values]
        run = self.session.run
        return np.concatenate([run(None, {self.input: np.ascontiguousarray(batch, np.float32)})[0] for batch in batches])


class Http:
    """An endpoint that takes POSTed JSON `{"images": [base64 PNG, ...]}` and answers `{"probabilities": [[...], ...]}`.

    `{"classes": [...]}` beside the probabilities names the classes. Connections that fail, timeouts and the statuses 429
    and 5xx are tried `retries` more times, after 0.5, 1, 2 ... s.
    """

    def __init__(self, url: str, *, timeout: float = 30.0, retries: int = 2, wait: float = 0.5) -> None:
        self.url, self.timeout, self.retries, self.wait = url, timeout, retries, wait
        self.classes: tuple[str, ...] = ()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        body = json.dumps({"images": [base64.b64encode(png(image)).decode() for image in images]}).encode()
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.wait * 2 ** (attempt - 1))
            try:
                return self._read(self._post(body))
            except urllib.error.HTTPError as error:
                problem = f"answered {error.code} {error.reason}"
                error.close()
                if error.code != 429 and error.code < 500:
                    break
            except TimeoutError:
                problem = f"has not answered in {self.timeout:g} s (timeout=...)"
            except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
                reason = getattr(error, "reason", None) or error
                slow = isinstance(reason, TimeoutError)
                problem = f"has not answered in {self.timeout:g} s (timeout=...)" if slow else f"cannot be reached: {reason!r}"
        raise RunError(f"{self.url} {problem}, after {attempt + 1} tries.")

    def _post(self, body: bytes) -> bytes:
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:
            return answer.read(_MAX_ANSWER)

    def _read(self, text: bytes) -> np.ndarray:
        try:
            answer = json.loads(text)
            values = np.asarray(answer["probabilities"], np.float64)
        except (ValueError, KeyError, TypeError):
            start = text[:80].decode(errors="replace")
            raise RunError(f'{self.url} answered {start!r} where JSON {{"probabilities": [[...], ...]}} was due.') from None
        if isinstance(classes := answer.get("classes"), list):
            self.classes = tuple(map(str, classes))
        return values


class Softmax:
    """For black boxes that answer logits."""

    def __init__(self, evaluate: BlackBox) -> None:
        self.evaluate = evaluate

    def __call__(self, images: np.ndarray) -> np.ndarray:
        logits = np.asarray(self.evaluate(images), np.float64)
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)


class QueryLimit:
    """Counts the images that are asked about and refuses those beyond `queries`; in calls of at most `batch` images."""

    def __init__(self, evaluate: BlackBox, queries: int | None = None, batch: int = 64) -> None:
        self.evaluate, self.queries, self.batch, self.asked = evaluate, queries, batch, 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if self.queries is not None and self.asked + len(images) > self.queries:
            raise QueriesSpent(
                f"the budget of {self.queries} queries is spent ({self.asked} asked, {len(images)} more wanted)."
            )
        parts = []
        for start in range(0, len(images), self.batch):
            batch = images[start : start + self.batch]
            answer = np.asarray(self.evaluate(batch), np.float64)
            if answer.shape[:1] != batch.shape[:1] or answer.ndim != 2:
                raise RunError(f"the evaluator answered an array of shape {answer.shape} for {len(batch)} images.")
            self.asked += len(batch)
            parts.append(answer)
        return np.concatenate(parts)


class Cache:
    """Asks about each picture once. With a file (one line of JSON per picture) also across runs."""

    def __init__(self, evaluate: BlackBox, path: Path | None = None) -> None:
        self.evaluate, self.path = evaluate, path
        self.known: dict[str, list[float]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._remember(line)

    def _remember(self, line: str) -> None:
        try:
            key, values = json.loads(line)
        except (ValueError, TypeError):
            return  # the last line of a run that was killed while it wrote
        self.known[key] = values

    def __call__(self, images: np.ndarray) -> np.ndarray:
        keys = [hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest() for image in images]
        new = {key: number for number, key in enumerate(keys) if key not in self.known}
        if new:
            answers = np.asarray(self.evaluate(images[list(new.values())]), np.float64).tolist()
            self.known |= zip(new, answers, strict=True)
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps([key, self.known[key]]) + "\n" for key in new)
        return np.array([self.known[key] for key in keys])


def png(image: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8 as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def outside(
    text: str,
    *,
    trust_code: bool,
    timeout: float,
    retries: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Callable[[np.ndarray], Any]:
    """The black box that a text names: a URL, a file.onnx, or package.module:function."""
    if text.startswith(("http://", "https://")):
        return Http(text, timeout=timeout, retries=retries)
    if text.endswith(".onnx"):
        return Onnx(Path(text).expanduser(), mean, std)
    if ":" in text and "//" not in text:
        return Guarded(load_function(text, trust_code=trust_code), text, timeout)
    raise UserError(f"evaluator={text} is neither a URL (http://...), nor a file.onnx, nor package.module:function.")
