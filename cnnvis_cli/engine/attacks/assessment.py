"""How large changes are, what there is to warn of, and how accuracy falls as the budget grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.problem import Goal, Model, Problem
from cnnvis_cli.engine.attacks.quantize import quantize


@dataclass(frozen=True)
class Change:
    """One picture's change. `l0`: pixels that differ; `l2`, `linf`: of values in [0, 1]; `psnr` in dB; `ssim` up to 1."""

    l0: int
    l2: float
    linf: float
    psnr: float
    ssim: float


def changes(before: Tensor, after: Tensor) -> list[Change]:
    """The change of each of (B, 3, H, W) pictures. SSIM as Wang et al. 2004 (Gaussian windows of sigma 1.5)."""
    from skimage.metrics import structural_similarity

    found = []
    for old, new in zip(before.cpu().double(), after.cpu().double(), strict=True):
        change = new - old
        error = change.square().mean().item()
        ssim = structural_similarity(
            old.numpy(),
            new.numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        psnr = math.inf if error == 0 else -10 * math.log10(error)
        l0 = int((change.abs().amax(0) > 0.5 / 255).sum())
        found.append(Change(l0, change.norm().item(), change.abs().max().item(), psnr, float(ssim)))
    return found


def suspicions(model: Model, pictures: Tensor, goal: Goal, names: Sequence[str]) -> list[str]:
    """Reasons not to trust what an attack finds, in plain language, from two looks and one gradient per picture."""
    leaf = pictures.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = model(leaf)
        gradient = None
        if logits.requires_grad:
            (gradient,) = torch.autograd.grad(goal.cross_entropy(logits).sum(), leaf)
    with torch.no_grad():
        again = model(pictures)
    logits = logits.detach()
    found = []
    wrong = _named((logits.argmax(1) != goal.labels), names)
    if wrong:
        found.append(f"{wrong}: the network is wrong before any attack. That counts for no attack.")
    flat = _named(gradient.flatten(1).abs().amax(1) == 0, names) if gradient is not None else ", ".join(names)
    if flat:
        found.append(
            f"{flat}: the gradient is zero everywhere. Gradient attacks must fail there, which says nothing about how robust "
            "the network is; try attack=square."
        )
    unsteady = _named((logits - again).abs().amax(1) > 1e-3 * logits.abs().amax(1).clamp_min(1), names)
    if unsteady:
        found.append(f"{unsteady}: the network answers differently when asked twice. One success may be chance.")
    return found


def _named(which: Tensor, names: Sequence[str], most: int = 5) -> str:
    chosen = [name for name, yes in zip(names, which.tolist(), strict=True) if yes]
    return ", ".join(chosen[:most]) + (f" and {len(chosen) - most} more" if len(chosen) > most else "")


def accuracy_by_budget(
    model: Model, pictures: Tensor, goal: Goal, norm: str, epsilons: Sequence[float], attack: Callable[[Problem], Tensor]
) -> list[float]:
    """Share of pictures that withstand the attack at each of the rising `epsilons`, judged on 8-bit pictures.

    A picture that was fooled within a smaller budget is fooled within a larger one and is not attacked again.
    """
    standing = torch.arange(len(pictures))
    shares = []
    for epsilon in epsilons:
        if epsilon == 0:
            with torch.no_grad():
                fooled = goal.at(standing).met(model(pictures)).cpu()
        elif len(standing):
            rows = standing.to(pictures.device)
            problem = Problem(model, pictures[rows], goal.at(standing), Bound(norm, epsilon))  # type: ignore[arg-type]
            fooled = quantize(problem, attack(problem)).fooled
        else:
            fooled = torch.zeros(0, dtype=torch.bool)
        standing = standing[~fooled]
        shares.append(len(standing) / len(pictures))
    return shares
