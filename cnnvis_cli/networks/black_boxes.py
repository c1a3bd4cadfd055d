"""Black boxes from outside: a Python function, an ONNX file, an HTTP endpoint. And what stands before them: budget and cache.

All of them are `BlackBox`s: from images (N, H, W, 3) uint8, sRGB, to probabilities (N, classes).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import math
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnvis_cli.engine.evolution import BlackBox, QueriesSpent
from cnnvis_cli.engine.pixels import LUMA
from cnnvis_cli.errors import RunError, UserError, shortened
from cnnvis_cli.networks.user_code import load_object

_MAX_ANSWER = 256 * 2**20  # bytes


def load_function(place: str, *, trust_code: bool) -> BlackBox:
    """`package.module:function`, taking (N, H, W, 3) uint8 and returning (N, classes) probabilities. Runs the user's code."""
    function = load_object(place, "evaluator", trust_code=trust_code)
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
            raise RunError(f"{self.name} died: {type(error).__name__}: {shortened(error, 300)}.") from error
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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Pictures go to the address that was given, and to no other one; a redirected POST would also lose them."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
_GRACE = 0.5  # s, for the socket's own timeout, whose message says more


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
                problem = f"answered {error.code} {shortened(error.reason)}"
                if 300 <= error.code < 400:
                    problem = f"redirects to {shortened(error.headers.get('Location', 'nowhere'), 200)}: give that address"
                error.close()
                if error.code != 429 and error.code < 500:
                    break
            except TimeoutError:
                problem = f"has not answered in {self.timeout:g} s (timeout=...)"
            except (ValueError, http.client.InvalidURL) as error:
                problem = f"is no address that can be asked: {shortened(error, 200)}"
                break
            except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
                reason = getattr(error, "reason", None) or error
                slow = isinstance(reason, TimeoutError)
                problem = (
                    f"has not answered in {self.timeout:g} s (timeout=...)"
                    if slow
                    else f"cannot be reached: {shortened(repr(reason), 200)}"
                )
        raise RunError(f"{self.url} {problem}, after {attempt + 1} tries.")

    def _post(self, body: bytes) -> bytes:
        """The answer. Raises TimeoutError where not all of it is there in `timeout` s, also where it drips in byte by byte."""
        found: dict[str, Any] = {}

        def ask() -> None:
            try:
                request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
                with _OPENER.open(request, timeout=self.timeout) as answer:
                    found["text"] = answer.read(_MAX_ANSWER)
            except Exception as error:
                found["error"] = error

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(self.timeout + _GRACE)
        if "error" in found:
            raise found["error"]
        if "text" not in found:
            raise TimeoutError
        return found["text"]

    def _read(self, text: bytes) -> np.ndarray:
        try:
            answer = json.loads(text)
            values = np.asarray(answer["probabilities"], np.float64)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            start = text[:80].decode(errors="replace")
            raise RunError(f'{self.url} answered {start!r} where JSON {{"probabilities": [[...], ...]}} was due.') from None
        if isinstance(classes := answer.get("classes"), list):
            self.classes = tuple(map(str, classes))
        return values


def _numbers(answer: Any, count: int) -> np.ndarray:
    """An evaluator's answer for `count` images as (count, classes). Raises RunError for all else."""
    try:
        values = np.asarray(answer, np.float64)
    except (ValueError, TypeError, OverflowError, RuntimeError):
        raise RunError(f"the evaluator answered a {type(answer).__name__} that is no array of numbers.") from None
    if values.ndim != 2 or len(values) != count or not values.shape[1]:
        raise RunError(f"the evaluator answered an array of shape {values.shape} for {count} images.")
    return values


class Softmax:
    """For black boxes that answer logits."""

    def __init__(self, evaluate: BlackBox) -> None:
        self.evaluate = evaluate

    def __call__(self, images: np.ndarray) -> np.ndarray:
        logits = _numbers(self.evaluate(images), len(images))
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
        parts: list[np.ndarray] = []
        for start in range(0, len(images), self.batch):
            batch = images[start : start + self.batch]
            answer = _numbers(self.evaluate(batch), len(batch))
            if not np.isfinite(answer).all():
                raise RunError("the evaluator answered numbers that are not finite (NaN or infinite).")
            if parts and answer.shape[1] != parts[0].shape[1]:
                raise RunError(f"the evaluator answered {parts[0].shape[1]} classes first and {answer.shape[1]} then.")
            self.asked += len(batch)
            parts.append(answer)
        return np.concatenate(parts)


class Cache:
    """Asks about each picture once. With a file (one line of JSON per picture) also across runs.

    `whose`: says which evaluator answers, in all that its answers depend on. Answers of another one are not taken for its.
    """

    def __init__(self, evaluate: BlackBox, path: Path | None = None, whose: str = "") -> None:
        self.evaluate, self.path, self.whose = evaluate, path, whose.encode()
        self.known: dict[str, list[float]] = {}
        if path is not None and path.exists():
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"cannot read the cache {path}: {error}. Name another file.") from None
            for line in text.splitlines():
                self._remember(line)

    def _remember(self, line: str) -> None:
        try:
            key, values = json.loads(line)
            right = isinstance(key, str) and isinstance(values, list) and bool(values)
            right = right and all(isinstance(value, int | float) and math.isfinite(value) for value in values)
        except (ValueError, TypeError, RecursionError, OverflowError):
            return  # the last line of a run that was killed while it wrote
        if right:
            self.known[key] = values

    def __call__(self, images: np.ndarray) -> np.ndarray:
        keys = [hashlib.sha256(self.whose + repr(image.shape).encode() + image.tobytes()).hexdigest() for image in images]
        new = {key: number for number, key in enumerate(keys) if key not in self.known}
        if new:
            answers = np.asarray(self.evaluate(images[list(new.values())]), np.float64).tolist()
            self.known |= zip(new, answers, strict=True)
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps([key, self.known[key]]) + "\n" for key in new)
        rows = [self.known[key] for key in keys]
        if len({len(row) for row in rows}) > 1:
            raise UserError(f"the cache {self.path} holds answers for other classes too. Name another file.")
        return np.array(rows)


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
        try:
            there = bool(urllib.parse.urlsplit(text).hostname and urllib.parse.urlsplit(text).port != 0)
        except ValueError as error:
            raise UserError(f"evaluator={shortened(text)} is no address: {shortened(error)}.") from None
        if not there or not text.isascii() or re.search(r"[\s\x00-\x1f]", text):
            raise UserError(f"evaluator={shortened(text)} is no address: write http://HOST:PORT/PATH, in plain letters.")
        return Http(text, timeout=timeout, retries=retries)
    if text.endswith(".onnx"):
        return Onnx(Path(text).expanduser(), mean, std)
    if ":" in text and "//" not in text:
        return Guarded(load_function(text, trust_code=trust_code), text, timeout)
    raise UserError(f"evaluator={shortened(text)} is neither a URL (http://...), nor a file.onnx, nor package.module:function.")
