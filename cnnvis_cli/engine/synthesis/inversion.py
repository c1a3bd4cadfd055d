"""Inverting a layer: the picture whose code is a given one (Mahendran and Vedaldi 2015).

    x* = argmin  |Phi(x) - Phi0|^2 / |Phi0|^2 / u_code  +  variation * TV(x) / u_tv  +  norm * R(x) / u_norm

Each term is counted in units u measured on natural pictures, so that one setting serves every layer of every network. The
paper sets the balance by hand instead, three values of the variation's weight that grow with depth. Here that growth is
measured: a layer is held to its code only as closely as it can place things in the picture, which is the pitch of its map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.activations import IMAGES, activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.loop import Loop
from cnnvis_cli.engine.optim.objectives import Activations, Objective, Term, content, norm
from cnnvis_cli.engine.optim.parameterizations import Parameterization
from cnnvis_cli.engine.optim.rectifiers import FIRST_STEPS
from cnnvis_cli.engine.optim.regularizers import gaussian_blur

# Brightness, blue against red, green against magenta. Natural pictures vary much less in the last two than in the first.
OPPONENT_COLORS = torch.tensor([[3**-0.5, 3**-0.5, 3**-0.5], [2**-0.5, 0.0, -(2**-0.5)], [6**-0.5, -2 * 6**-0.5, 6**-0.5]])
# Standard deviation of the blur that makes the unit of a code, in pitches of the layer's map, and at most in picture sides:
# beyond that nothing is left to blur.
_BLUR, _WIDEST = 0.5, 0.25


@dataclass(frozen=True)
class Units:
    """What natural pictures have. `code`: normalised squared distance of a layer's code under a blur of half its pitch.
    `variation` (3,): total variation of each opponent colour. `norm`: mean of |2x - 1|^alpha."""

    code: float
    variation: Tensor
    norm: float


def color_variation(pictures: Tensor, beta: float) -> Tensor:
    """(B, 3) mean over pixels of (dx^2 + dy^2)^(beta / 2) of each opponent colour; pictures (B, 3, H, W) in [0, 1]."""
    colors = torch.einsum("dc,bchw->bdhw", OPPONENT_COLORS.to(pictures), pictures)
    dx = colors[:, :, :-1, 1:] - colors[:, :, :-1, :-1]
    dy = colors[:, :, 1:, :-1] - colors[:, :, :-1, :-1]
    return (dx.square() + dy.square() + 1e-8).pow(beta / 2).flatten(2).mean(2)


@torch.no_grad()
def layer_code(network: Network, layer: str, pictures: Tensor) -> Tensor:
    """Phi(x): the layer's output (B, C, ...) for pictures (B, 3, H, W)."""
    return activations(network, pictures, [layer])[layer]


def code_distance(code: Tensor, target: Tensor) -> Tensor:
    """(B,) normalised squared distance |Phi - Phi0|^2 / |Phi0|^2."""
    return (code - target).flatten(1).square().sum(1) / target.flatten(1).square().sum(1).clamp_min(1e-12)


def pitch(code: Tensor, side: int) -> float:
    """Pixels from one position of a layer's map (B, C, h, w) to the next, for pictures of `side`; of a vector, all of them."""
    return side / max(code.shape[2:], default=1)


@torch.no_grad()
def natural_units(network: Network, layer: str, pictures: Tensor, *, beta: float = 2.0, alpha: float = 6.0) -> Units:
    """Measure the units on natural pictures (B, 3, H, W) of the size of those to be found."""
    code = layer_code(network, layer, pictures)
    side = max(pictures.shape[2:])
    blurred = layer_code(network, layer, gaussian_blur(pictures, min(_BLUR * pitch(code, side), _WIDEST * side)))
    typical = norm(alpha)({IMAGES: pictures}).mean().item()
    return Units(max(code_distance(blurred, code).mean().item(), 1e-6), color_variation(pictures, beta).mean(0), typical)


def inversion_objective(
    layer: str,
    code: Tensor,
    units: Units,
    *,
    tolerance: float = 0.0,
    variation: float = 0.0,
    norm_weight: float = 0.0,
    beta: float = 2.0,
    alpha: float = 6.0,
) -> Objective:
    """Minus the energy above, for one code (1, C, ...) that all pictures are asked for, or one for each (B, C, ...).

    The distance of codes counts beyond `tolerance` units only: what is below is left to the priors (the discrepancy
    principle of regularization). With 0 it always counts, as in the paper.
    """
    asked = content(layer, code)

    def beyond(acts: Activations) -> Tensor:
        return -(-asked(acts) / units.code - tolerance).clamp_min(0)

    def smoothness(acts: Activations) -> Tensor:
        return -(color_variation(acts[IMAGES], beta) / units.variation.to(acts[IMAGES])).mean(1)

    data = Objective(frozenset([layer]), beyond, (Term("content", layer),))
    prior = Objective(frozenset(), smoothness, (Term("tv", name=f"{beta:g}"),))
    return data + variation * prior - (norm_weight / units.norm) * norm(alpha)


def inversion_loop(network: Network, objective: Objective, image: Parameterization, *, steps: int, rate: float) -> Loop:
    """Adam with the rate falling as a cosine: fast at first, and no tremble left at the end.

    Its memory of the gradient's size is short: once the code is found the priors are alone, and theirs is far smaller.
    """

    def falling(step: int) -> float:
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps))

    evaluate = value_gradient(network, objective)
    return Loop(image, evaluate, steps=steps, rate=rate, rates=falling, betas=(0.9, 0.99), passing=FIRST_STEPS)


def check_code(network: Network, layer: str, code: Tensor, size: int) -> Tensor:
    """A code from outside as (1, C, ...), or UserError where pictures of `size` give this layer another shape."""
    probe = layer_code(network, layer, torch.full((1, 3, size, size), 0.5, device=network.device))
    if code.shape == probe.shape[1:]:
        code = code[None]
    if code.shape != probe.shape:
        raise UserError(
            f"the code has the shape {tuple(code.shape)}, but {layer} of {network.name} gives {tuple(probe.shape[1:])} "
            f"for pictures of {size} px. Another layer or size=... may fit."
        )
    if not bool(code.isfinite().all()) or not bool(code.any()):
        raise UserError("the code holds only zeros, or values that are not numbers.")
    return code.to(probe)


def similarity(first: Tensor, second: Tensor) -> float:
    """SSIM (Wang et al. 2004, 7 x 7 windows, mean of the colours) of two pictures (1, 3, H, W) in [0, 1]; 1 if equal."""
    from skimage.metrics import structural_similarity

    a, b = (picture.detach()[0].clamp(0, 1).cpu().numpy() for picture in (first, second))
    return float(structural_similarity(a, b, channel_axis=0, data_range=1.0))


def psnr(made: Tensor, goal: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]."""
    return -10 * (made - goal).square().mean().clamp_min(1e-10).log10().item()


def trunk(network: Network) -> list[str]:
    """The layers along the network's main path, in order: single layers, and whole blocks where it branches.

    What only reshapes or drops nothing at test time (flatten, dropout, identity) is left out.
    """
    idle = ("Flatten", "Dropout", "Identity")
    opened = {name for name, module in network.module.named_modules() if name and _opened(network, name, module)}
    found: list[str] = []
    for name, layer in network.layers.items():
        parents = {name[:i] for i, letter in enumerate(name) if letter == "."}
        if parents <= opened and name not in opened and layer.kind not in idle:
            found.append(name)
    return found


def _opened(network: Network, name: str, module: nn.Module) -> bool:
    """Whether a module is no block, but holds some: a sequence, a list that is never called itself, or a network in the
    network: inside of it maps shrink more than once, or it has most layers and gives the answer."""
    if type(module) is nn.Sequential or (name not in network.layers and any(module.children())):
        return True
    names = list(network.layers)
    inner = [layer for other, layer in network.layers.items() if other.startswith(f"{name}.")]
    sizes = {network.halvings(layer) for layer in inner if layer.spatial and max(layer.shape[1:]) > 1}
    answers = all(name.startswith(f"{after}.") for after in names[names.index(name) + 1 :])
    return len(sizes) > 2 or (answers and 2 * len(inner) > len(names))


def block_ends(network: Network) -> list[str]:
    """The last layer of the trunk at each size of maps, and the last of all."""
    names = trunk(network)
    sizes = [network.layer(name).shape[1:] for name in names]
    ends = [name for name, size, after in zip(names, sizes, sizes[1:], strict=False) if size != after and len(size) == 2]
    return [*(name for name in ends if max(network.layer(name).shape[1:]) > 1), names[-1]]
