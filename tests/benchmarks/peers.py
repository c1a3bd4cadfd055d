"""A network as its library builds it, untouched, and its Grad-CAM by pytorch-grad-cam and captum: what ours must equal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.attribution import gradients
from cnnvis_cli.engine.network.layers import OutOfPlace
from cnnvis_cli.engine.network.layouts import Layout
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import class_logit
from cnnvis_cli.networks.load import load_module
from cnnvis_cli.networks.spec import NetworkSpec

# Random weights give many classes a map without one place that speaks for them: so many are asked.
_CLASSES = range(1, 7)


class Untouched:
    """A library's module in eval mode: BatchNorm not folded, memory as it was made, its forward called and nothing else."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.module, preprocessing, _ = load_module(spec)
        self.size = preprocessing.size
        self.module.eval().requires_grad_(False)
        for child in self.module.modules():
            if getattr(child, "inplace", False):
                child.inplace = False  # type: ignore[assignment]  # the peers' hooks would see what came after
        self.mean, self.std = (torch.tensor(values).view(1, -1, 1, 1) for values in (preprocessing.mean, preprocessing.std))

    @torch.no_grad()
    def weights_that_answer(self, path: Path) -> str:
        """`random`; where these answer all zeros (ViTs begin with a head of zeros), a file of them with a head drawn anew."""
        side = self.size
        if bool(self(torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))).any()):
            return "random"
        head = [child for child in self.module.modules() if isinstance(child, nn.Linear)][-1]
        head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(0)).mul(0.05))
        torch.save(self.module.state_dict(), path)
        return str(path)

    def normalize(self, picture: Tensor) -> Tensor:
        return (picture - self.mean) / self.std

    @torch.no_grad()
    def __call__(self, picture: Tensor) -> Tensor:
        """(classes,) of a picture (1, 3, H, W)."""
        scores = self.module(self.normalize(picture))
        assert isinstance(scores, Tensor), type(scores)
        assert scores.ndim == 2, scores.shape
        return scores[0]

    @torch.no_grad()
    def given_by(self, layer: str, picture: Tensor) -> list[Any]:
        """What a layer gives, once for each time it is called."""
        seen: list[Any] = []
        hook = self.module.get_submodule(layer).register_forward_hook(lambda child, inputs, output: seen.append(output))
        try:
            self.module(self.normalize(picture))
        finally:
            hook.remove()
        return seen


def folded(network: Network, untouched: Untouched, layer: str) -> bool:
    """Whether a layer is a convolution that took its BatchNorm in: another function than the library's of that name."""
    ours, theirs = (net.module.get_submodule(layer) for net in (network, untouched))
    return isinstance(theirs, nn.Conv2d) and not torch.equal(ours.weight, theirs.weight)


def reshape_for(module: nn.Module, layout: Layout) -> Any:
    """pytorch-grad-cam's `reshape_transform`, as its documentation writes them for Swin and ViT; None for NCHW maps."""
    if layout.kind == "maps":
        return None if layout.channel == 1 else lambda tensor: tensor.permute(0, 3, 1, 2)
    others = getattr(module, "num_prefix_tokens", 1 if hasattr(module, "class_token") else 0)

    def grid(tensor: Tensor) -> Tensor:
        rows = tensor if layout.channel == 2 else tensor.transpose(1, 2)
        side = math.isqrt(rows.shape[1] - others)
        return rows[:, others:].reshape(len(rows), side, side, -1).permute(0, 3, 1, 2)

    return grid


def pytorch_grad_cam(untouched: Untouched, layer: str, layout: Layout, picture: Tensor, index: int) -> Tensor:
    """(h, w), rectified, at the layer's own resolution: before it enlarges and scales the map."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    maps: list[np.ndarray] = []

    class Kept(GradCAM):
        def get_cam_image(self, *args: Any, **kwargs: Any) -> np.ndarray:
            maps.append(super().get_cam_image(*args, **kwargs))
            return maps[-1]

    module = untouched.module
    with Kept(module, [module.get_submodule(layer)], reshape_for(module, layout)) as cam:
        cam(untouched.normalize(picture).requires_grad_(True), [ClassifierOutputTarget(index)])
    return torch.from_numpy(maps[0][0]).clamp(min=0)


def captum_grad_cam(untouched: Untouched, layer: str, picture: Tensor, index: int) -> Tensor:
    """(h, w), rectified; of NCHW maps alone."""
    from captum.attr import LayerGradCam

    leaf = untouched.normalize(picture).requires_grad_(True)
    cam = LayerGradCam(untouched.module, untouched.module.get_submodule(layer))
    return cam.attribute(leaf, target=index, relu_attributions=True)[0, 0].detach()


def compare_grad_cam(network: Network, untouched: Untouched, picture: Tensor) -> dict[str, Any]:
    """Largest difference of our Grad-CAM at its default layer from each peer's, over the largest value of theirs; or why
    there is no peer. `picture` (1, 3, S, S)."""
    layer, ours, index = "", torch.zeros(()), 0
    for index in _CLASSES:
        target = class_logit(network, index)
        layer = gradients.grad_cam_layer(network, target, picture)
        ours = gradients.grad_cam(network, picture, target, layer)[0]
        if bool(ours.any()):
            break
    known = network.layer(layer)
    row: dict[str, Any] = {"layer": layer, "class": index, "shape": list(known.shape), "lie": known.layout.kind}
    given = untouched.given_by(layer, picture)
    if len(given) != 1 or not isinstance(given[0], Tensor):
        what = f"is called {len(given)} times" if len(given) != 1 else f"gives a {type(given[0]).__name__}"
        return row | {"unsupported": f"the layer {what}"}
    if folded(network, untouched, layer):
        return row | {"unsupported": "the layer is a convolution with its BatchNorm folded in"}
    plain = known.layout.kind == "maps" and known.layout.channel == 1
    row["lie"] += "" if plain or known.layout.kind != "maps" else ", channels last"

    def by_pytorch_grad_cam() -> Tensor:
        with OutOfPlace():
            return pytorch_grad_cam(untouched, layer, known.layout, picture, index)

    # As it is, it takes what a functional in-place rectifier made of a layer's output for that output (densenet121).
    calls = {
        "pytorch-grad-cam": by_pytorch_grad_cam,
        "pytorch-grad-cam as it is": lambda: pytorch_grad_cam(untouched, layer, known.layout, picture, index),
    }
    if plain:
        calls["captum"] = lambda: captum_grad_cam(untouched, layer, picture, index)
    for peer, call in calls.items():
        try:
            theirs = call()
        except Exception as error:
            row[peer] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
            continue
        largest = theirs.max().item()
        flat = not largest and not bool(ours.any())
        row[peer] = "flat in both" if flat else ((ours - theirs).abs().max() / max(largest, 1e-30)).item()
    return row
