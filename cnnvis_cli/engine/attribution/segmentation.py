"""An object's mask out of a heat map: no labels, only what the network looks at. Simonyan et al. 2013, section 3.2.

The colours of the object and of what is around it are mixtures of Gaussians, learned first where the map is highest and lowest,
then from the mask itself; a cut of least cost through the grid of pixels divides the two (Boykov and Jolly 2001; GrabCut:
Rother, Kolmogorov and Blake 2004).
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.pixels import gaussian_blur

# Long side in pixels on which the cut is made, weight of a cut between two pixels of one colour, rounds of colours and cuts.
_SIDE, _SMOOTH, _ROUNDS = 128, 2.5, 3
# Components of a mixture, pixels that it is learned from, and quanta per unit of cost, which the flow counts in whole numbers.
_COMPONENTS, _LEARNED_FROM, _QUANTA = 5, 1500, 1000
# Below this a map is as spread as one that knows nothing: see `concentration`.
DIFFUSE = 0.3


def concentration(heat: Tensor) -> float:
    """Share of a smoothed map's absolute values (H, W) on the fifth of the picture where it is highest: 0.2 of a flat map, 1 of
    one that is zero elsewhere."""
    values = _soft(heat).abs().flatten()
    total = float(values.sum())
    return float(values.topk(max(1, len(values) // 5)).values.sum()) / total if total else 0.0


def object_mask(image: Tensor, heat: Tensor, *, foreground: float = 0.95, background: float = 0.3) -> Tensor:
    """(H, W) bool for an image (3, H, W), sRGB in [0, 1], and its heat map (H, W), larger on the object.

    Pixels above the `foreground` quantile of the smoothed map are of the object, those below the `background` quantile are not;
    both teach the colours that decide on the rest. The largest connected piece is kept. Empty where the map is diffuse.
    """
    from skimage.measure import label

    if concentration(heat) < DIFFUSE:
        return torch.zeros(heat.shape, dtype=torch.bool)
    factor = min(1.0, _SIDE / max(heat.shape))
    size = tuple(max(2, round(side * factor)) for side in heat.shape)
    colors = F.interpolate(image[None].cpu(), size, mode="area")[0].permute(1, 2, 0).double().numpy()
    soft = F.interpolate(_soft(heat)[None, None], size, mode="area")[0, 0].numpy()
    rank = soft.ravel().argsort(kind="stable").argsort(kind="stable").reshape(size) / (soft.size - 1)
    pieces = label(_divided(colors, rank, rank >= foreground, rank <= background), connectivity=1)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if not sizes.any():
        return torch.zeros(heat.shape, dtype=torch.bool)
    kept = torch.from_numpy(pieces == sizes.argmax()).float()
    return F.interpolate(kept[None, None], tuple(heat.shape), mode="bilinear", align_corners=False)[0, 0] > 0.5


def _soft(heat: Tensor) -> Tensor:
    side = min(heat.shape)
    sigma = max(1.0, side / 50)
    return gaussian_blur(heat[None].cpu().float(), min(round(2 * sigma), side - 1), sigma)[0]


def _divided(colors: np.ndarray, rank: np.ndarray, seeds: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Object or not, (H, W): colours of the `seeds` and of what is `around`, a cut, colours of its two sides, and so on."""
    flat = colors.reshape(-1, 3)
    steps = [(colors[1:] - colors[:-1]).reshape(-1, 3), (colors[:, 1:] - colors[:, :-1]).reshape(-1, 3)]
    contrast = 1 / (2 * np.square(np.concatenate(steps)).sum(1).mean() + 1e-12)
    known, inside, outside = np.clip(rank, 0.01, 0.99), seeds, around
    for _ in range(_ROUNDS):
        if inside.sum() < 2 or outside.sum() < 2:
            break
        costs = [_unlikely(flat, members.ravel()).reshape(rank.shape) for members in (inside, outside)]
        as_object, as_ground = costs[0] - np.log(known), costs[1] - np.log(1 - known)
        low = np.minimum(as_object, as_ground)
        as_object, as_ground = as_object - low, as_ground - low
        as_object[seeds] = as_ground[around] = 0
        as_ground[seeds] = as_object[around] = 1e4
        new = _cut(as_object, as_ground, colors, contrast)
        if np.array_equal(new, inside):
            break
        inside, outside = new, ~new
    return inside


def _unlikely(colors: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Minus the log-likelihood of colours (N, 3) under a mixture learned from the `members` (N,) among them."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    known = colors[members]
    known = known[np.linspace(0, len(known) - 1, min(_LEARNED_FROM, len(known))).astype(int)]
    count = max(1, min(_COMPONENTS, len(known) // 10))
    mixture = GaussianMixture(count, random_state=0, reg_covar=1e-4, max_iter=30, tol=1e-2)
    with warnings.catch_warnings():  # flat colours have fewer clusters than components, and a good fit all the same
        warnings.simplefilter("ignore", ConvergenceWarning)
        return -mixture.fit(known).score_samples(colors)


def _cut(as_object: np.ndarray, as_ground: np.ndarray, colors: np.ndarray, contrast: float) -> np.ndarray:
    """The division (H, W) of least cost: what each pixel costs on its side, and neighbours on different sides the more the more
    alike their colours are. Found as a maximum flow."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    height, width = as_object.shape
    count = height * width
    number = np.arange(count).reshape(height, width)
    flat = colors.reshape(-1, 3)
    rows, columns, capacities = [], [], []
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one = number[: height - down, max(0, -across) : width - max(0, across)].ravel()
        other = number[down:, max(0, across) : width + min(0, across)].ravel()
        alike = np.exp(-contrast * np.square(flat[one] - flat[other]).sum(1)) * _SMOOTH / np.hypot(down, across)
        rows += [one, other]
        columns += [other, one]
        capacities += [alike, alike]
    source, sink = count, count + 1
    everything = number.ravel()
    rows += [np.full(count, source), everything]
    columns += [everything, np.full(count, sink)]
    capacities += [as_ground.ravel(), as_object.ravel()]
    whole = (np.concatenate(capacities) * _QUANTA).round().astype(np.int32)
    graph = coo_matrix((whole, (np.concatenate(rows), np.concatenate(columns))), shape=(count + 2, count + 2)).tocsr()
    left = graph - maximum_flow(graph, source, sink, method="dinic").flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    reached = np.zeros(count + 2, dtype=bool)
    reached[breadth_first_order(left, source, return_predecessors=False)] = True
    return reached[:count].reshape(height, width)
