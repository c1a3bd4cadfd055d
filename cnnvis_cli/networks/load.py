"""From a name (and perhaps a file of weights) to a frozen `Network` and the SHA-256 of its weights."""

from __future__ import annotations

import hashlib
import importlib
import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cnnvis_cli.engine.network.network import IMAGENET_MEAN, IMAGENET_STD, Network, Preprocessing
from cnnvis_cli.errors import UserError, did_you_mean
from cnnvis_cli.files.bundled import assets_folder
from cnnvis_cli.networks import bundled

BUNDLED: dict[str, Callable[..., nn.Sequential]] = {
    "minivgg": bundled.minivgg,
    "minivgg_robust": bundled.minivgg,
    "lenet": bundled.lenet,
}
# Each the judge of what was made with the other.
TWINS = {"minivgg": "minivgg_robust", "minivgg_robust": "minivgg"}

# What torchvision's builders set where they load pretrained weights. (They keep inception_v3's auxiliary head, which speaks
# in training only; here both networks are without.)
_INCEPTION: dict[str, Any] = {"transform_input": True, "aux_logits": False, "init_weights": False}
AS_PRETRAINED: dict[str, dict[str, Any]] = {
    "googlenet": _INCEPTION,
    "inception_v3": _INCEPTION,
    "vit_h_14": {"image_size": 518},
}
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


@dataclass(frozen=True)
class NetworkSpec:
    """What to load and how. `weights`: '' (pretrained), 'random', or a path."""

    model: str
    weights: str = ""
    precision: str = "float32"
    memory_format: str = "channels_last"
    offline: bool = False
    trust_code: bool = False
    seed: int = 0


@dataclass(frozen=True)
class _Parts:
    module: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    digest: str


def model_names() -> list[str]:
    """Bundled networks and torchvision's classifiers."""
    from torchvision import models

    return [*BUNDLED, *models.list_models(module=models)]


def load_network(source: NetworkSpec, device: torch.device) -> tuple[Network, str]:
    """The network and the SHA-256 of its weights. Raises UserError that names the remedy."""
    parts = _parts(source)
    network = Network.frozen(
        source.model,
        parts.module,
        parts.preprocessing,
        parts.classes,
        device=device,
        channels_last=source.memory_format == "channels_last",
        bf16=source.precision == "bf16",
        copied=False,
    )
    return network, parts.digest


def load_module(source: NetworkSpec) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """The module as it is, neither frozen nor made faster, for who trains it; what it takes, and its classes."""
    parts = _parts(source)
    return parts.module, parts.preprocessing, parts.classes


def _parts(source: NetworkSpec) -> _Parts:
    if source.model in BUNDLED:
        return _bundled(source)
    return _from_factory(source) if ":" in source.model else _from_torchvision(source)


def digest_of(state: dict[str, Tensor]) -> str:
    """SHA-256 over names and values of a state dict."""
    sha = hashlib.sha256()
    for key in sorted(state):
        sha.update(key.encode())
        sha.update(state[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _with_weights(
    build: Callable[[], nn.Module], source: NetworkSpec, preprocessing: Preprocessing, classes: tuple[str, ...]
) -> _Parts:
    """A module with random weights (from the seed alone) or with those of a file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        module = build()
    if source.weights == "random":
        return _Parts(module, preprocessing, classes, digest_of(module.state_dict()))
    path = Path(source.weights).expanduser()
    fit_weights(module, read_weights(path), f"the weights {path}", source.model)
    return _Parts(module, preprocessing, classes, hashlib.sha256(path.read_bytes()).hexdigest())


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors, or from .pth / .pt without running any code in it; in float32."""
    if not path.is_file():
        raise UserError(f"no weights file '{path}'.")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                state: Any = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a file of weights that can be read: {reason[:200]}") from None
    while isinstance(state, dict) and len(inner := [state[k] for k in ("state_dict", "model") if k in state]) == 1:
        state = inner[0]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state_dict. Save one with torch.save(model.state_dict(), path).")
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return {key.removeprefix(prefix): v.float() if v.is_floating_point() else v for key, v in state.items()}


def fit_weights(module: nn.Module, state: dict[str, Tensor], what: str, model: str) -> None:
    """Load a state dict, or say in one line how it differs from what the architecture wants. Auxiliary heads that the module
    was built without are passed over."""
    wanted = module.state_dict()
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - state.keys() - optional)
    extra = sorted(key for key in state.keys() - wanted.keys() if not key.startswith(_AUXILIARY))
    wrong = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    if missing or extra or wrong:
        notes = []
        for words, keys in (("missing", missing), ("unknown", extra), ("of another shape", wrong)):
            if keys:
                notes.append(f"{len(keys)} {words} (first: {keys[0]})")
        raise UserError(f"{what} are not of {model}: tensors {', '.join(notes)}. Name the model they were saved from.")
    module.load_state_dict(state, strict=False)


def _bundled(source: NetworkSpec) -> _Parts:
    path = assets_folder() / f"{source.model}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            card = file.metadata()
    except (OSError, SafetensorError) as error:
        raise UserError(f"the bundled weights {path} cannot be read ({error}). Reinstall cnnvis.") from None
    size = int(card["size"])
    resize = int(card.get("resize", size))
    preprocessing = Preprocessing(tuple(json.loads(card["mean"])), tuple(json.loads(card["std"])), size, resize)
    classes = tuple(json.loads(card["classes"]))
    chosen = NetworkSpec(**{**vars(source), "weights": source.weights or str(path)})
    return _with_weights(lambda: BUNDLED[source.model](len(classes)), chosen, preprocessing, classes)


def _from_torchvision(source: NetworkSpec) -> _Parts:
    from torchvision import models

    known = models.list_models(module=models)
    if source.model not in known:
        hint = did_you_mean(source.model, [*BUNDLED, *known])
        raise UserError(f"no model '{source.model}'.{hint} `cnnvis models` lists them.")
    best = models.get_model_weights(source.model).DEFAULT
    how = best.transforms()
    preprocessing = Preprocessing(tuple(how.mean), tuple(how.std), how.crop_size[0], how.resize_size[0])
    classes = tuple(best.meta["categories"])

    def build() -> nn.Module:
        return models.get_model(source.model, weights=None, **AS_PRETRAINED.get(source.model, {}))

    if source.weights:
        return _with_weights(build, source, preprocessing, classes)
    state = _download(best, source)
    module = build()
    fit_weights(module, state, "torchvision's weights", source.model)
    return _Parts(module, preprocessing, classes, digest_of(state))


def _download(best: Any, source: NetworkSpec) -> dict[str, Tensor]:
    """torchvision's weights from its cache, or from the network unless `offline`."""
    cache = Path(torch.hub.get_dir()) / "checkpoints" / best.url.rpartition("/")[2]
    remedy = (
        f"Put that file there by hand, or use weights=PATH or weights=random. (bundled, always there: {', '.join(BUNDLED)})"
    )
    if source.offline and not cache.exists():
        raise UserError(f"--offline, and {source.model}'s weights are not in {cache}; they come from {best.url}. {remedy}")
    try:
        return best.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"could not download {best.url} to {cache}: {reason}. {remedy}") from None


def _from_factory(source: NetworkSpec) -> _Parts:
    """`package.module:factory`: the user's code, which runs only with --trust-code.

    The factory takes no argument and returns an nn.Module. What it says about itself is used where it is there:
    `module.preprocessing` (mean, std, size), `module.classes` (names).
    """
    if not source.trust_code:
        raise UserError(f"model={source.model} would run your Python code. Add --trust-code if you trust it.")
    place, _, name = source.model.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(place), name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.seed)
            module = factory()
    except Exception as error:
        raise UserError(f"model={source.model} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(module, nn.Module):
        raise UserError(f"model={source.model} gave a {type(module).__name__}, not a torch.nn.Module.")
    if source.weights and source.weights != "random":
        fit_weights(module, read_weights(Path(source.weights)), f"the weights {source.weights}", source.model)
    said = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "size": 224, **getattr(module, "preprocessing", {})}
    said["resize"] = said.get("resize", said["size"])
    preprocessing = Preprocessing(tuple(said["mean"]), tuple(said["std"]), int(said["size"]), int(said["resize"]))
    return _Parts(module, preprocessing, tuple(getattr(module, "classes", ())), digest_of(module.state_dict()))
