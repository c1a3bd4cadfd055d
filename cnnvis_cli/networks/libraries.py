"""Networks of torchvision (`resnet18`) and of timm (`timm:NAME`): architecture, weights, preprocessing, class names."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnvis_cli.engine.network.network import Preprocessing
from cnnvis_cli.errors import UserError, did_you_mean
from cnnvis_cli.networks.checkpoints import classes_in, digest_of, fit_weights, read_weights, renamed_for, unwrapped
from cnnvis_cli.networks.self_description import preprocessing_of
from cnnvis_cli.networks.spec import NetworkSpec, Parts, described

ALWAYS_THERE = "minivgg, lenet"
# From a number of classes (None: the architecture's own) to the network with random weights.
Build = Callable[[int | None], nn.Module]

# What torchvision's builders set where they load pretrained weights. (They keep inception_v3's auxiliary head, which speaks
# in training only; here both networks are without.)
_INCEPTION: dict[str, Any] = {"transform_input": True, "aux_logits": False, "init_weights": False}
AS_PRETRAINED: dict[str, dict[str, Any]] = {
    "googlenet": _INCEPTION,
    "inception_v3": _INCEPTION,
    "vit_h_14": {"image_size": 518},
}


def with_weights(build: Build, spec: NetworkSpec, preprocessing: Preprocessing, classes: tuple[str, ...]) -> Parts:
    """A network with random weights (from the seed alone) or with those of a file, whose head may have another number of
    classes: the network is built to fit, and its classes are then numbers. A file of `train` says how its pictures are
    prepared and what its classes are called."""

    def seeded(count: int | None = None) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            return build(count)

    module = seeded()
    if spec.weights == "random":
        return Parts(module, preprocessing, classes, digest_of(module.state_dict()))
    path = spec.weights_path
    state = unwrapped(read_weights(path, module), module.state_dict())
    notes: tuple[str, ...] = ()
    if classes and (count := classes_in(state, module, len(classes))):
        module, classes = seeded(count), ()
        hint = "" if spec.classes else "; classes=FILE names them"
        notes = (f"the head in {path.name} has {count} classes{hint}",)
    fit_weights(module, state, f"the weights {path}", spec.model)
    said = described(path) if path.suffix == ".safetensors" else None
    if said is not None:
        preprocessing, classes, notes = said.preprocessing, said.classes, ()
    return Parts(module, preprocessing, classes, hashlib.sha256(path.read_bytes()).hexdigest(), notes)


def torchvision_names() -> list[str]:
    from torchvision import models

    return models.list_models(module=models)


def from_torchvision(spec: NetworkSpec, others: list[str]) -> Parts:
    """One of torchvision's classifiers. `others`: further names that might have been meant."""
    from torchvision import models

    known = torchvision_names()
    if spec.model not in known:
        path = Path(spec.model).expanduser()
        said = described(path) if path.suffix == ".safetensors" and path.is_file() else None
        of = said.architecture if said is not None else "NAME"
        hint = f" It is a file: model={of} weights={path}." if path.is_file() else did_you_mean(spec.model, [*others, *known])
        raise UserError(f"no model '{spec.model}'.{hint} `cnnvis models` lists them.")
    enum = models.get_model_weights(spec.model)
    best = enum[spec.weights] if spec.weights in enum.__members__ else enum.DEFAULT
    how = best.transforms()
    preprocessing = Preprocessing(tuple(how.mean), tuple(how.std), how.crop_size[0], how.resize_size[0])
    classes = tuple(best.meta["categories"])

    def build(count: int | None) -> nn.Module:
        head = {} if count is None else {"num_classes": count}
        return models.get_model(spec.model, weights=None, **AS_PRETRAINED.get(spec.model, {}), **head)

    if spec.weights and spec.weights not in enum.__members__:
        return with_weights(build, spec, preprocessing, classes)
    state = _download(best, spec)
    module = build(None)
    fit_weights(module, renamed_for(state, module.state_dict()), "torchvision's weights", spec.model)
    return Parts(module, preprocessing, classes, digest_of(state))


def _download(best: Any, spec: NetworkSpec) -> dict[str, Tensor]:
    """torchvision's weights from its cache, or from the network unless `offline`."""
    cache = Path(torch.hub.get_dir()) / "checkpoints" / best.url.rpartition("/")[2]
    remedy = f"Put that file there by hand, or use weights=PATH or weights=random. (bundled, always there: {ALWAYS_THERE})"
    if spec.offline and not cache.exists():
        raise UserError(f"--offline, and {spec.model}'s weights are not in {cache}; they come from {best.url}. {remedy}")
    try:
        return best.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"could not download {best.url} to {cache}: {reason}. {remedy}") from None


def from_timm(spec: NetworkSpec) -> Parts:
    """`timm:NAME`, also with a tag (`timm:resnet18.a1_in1k`), with preprocessing and class names from timm's own config."""
    name = spec.model.removeprefix("timm:")
    try:
        import timm
    except ImportError:
        raise UserError(f"model={spec.model} needs timm: pip install 'cnnvis[timm]'.") from None
    if not timm.is_model(name):
        known = timm.list_models()
        raise UserError(f"timm has no model '{name}'.{did_you_mean(name, known)} timm.list_models() lists its {len(known)}.")

    def build(count: int | None) -> nn.Module:
        head: dict[str, Any] = {} if count is None else {"num_classes": count}
        return timm.create_model(name, pretrained=False, **head)

    with torch.random.fork_rng(devices=[]):
        module = build(None)
    said = dict(getattr(module, "pretrained_cfg", {}) or {})
    values = {key: said[key] for key in ("mean", "std", "input_size", "crop_pct") if key in said}
    preprocessing, _ = preprocessing_of(values, f"model={spec.model}")
    classes = _timm_classes(module)
    if spec.weights:
        return with_weights(build, spec, preprocessing, classes)
    module = _pretrained(name, spec)
    return Parts(module, preprocessing, classes, digest_of(module.state_dict()))


def _pretrained(name: str, spec: NetworkSpec) -> nn.Module:
    """timm's weights from its cache, or from the network unless `offline`."""
    import huggingface_hub.constants as hub
    import timm

    hub_logs = logging.getLogger("huggingface_hub")
    before, level = hub.HF_HUB_OFFLINE, hub_logs.level
    hub.HF_HUB_OFFLINE = spec.offline or not _reachable("huggingface.co")  # it would try for a minute
    hub_logs.setLevel(logging.CRITICAL)
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # of the hub's many kinds, and timm's own
        reason = f"could not download its weights: {(str(error).strip().splitlines() or [type(error).__name__])[0][:160]}"
        if hub.HF_HUB_OFFLINE:
            why = "--offline" if spec.offline else "huggingface.co cannot be reached"
            reason = f"{why}, and its weights are not in the cache"
        remedy = f"Use weights=PATH or weights=random. (bundled, always there: {ALWAYS_THERE})"
        raise UserError(f"model={spec.model}: {reason}. {remedy}") from None
    finally:
        hub.HF_HUB_OFFLINE = before
        hub_logs.setLevel(level)


def _reachable(host: str) -> bool:
    """Whether its name can be looked up, or a proxy does that."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_ENDPOINT")):
        return True
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def _timm_classes(module: nn.Module) -> tuple[str, ...]:
    """timm's names of the ImageNet that a network was trained on; none for other sets of classes."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(module)
    if not subset:
        return ()
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(number) for number in range(info.num_classes()))
