"""An object's mask out of a heat map: no labels, only what the network looks at. Simonyan et al. 2013, section 3.2."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cnnvis_cli.engine.pixels import gaussian_blur


def object_mask(image: Tensor, heat: Tensor, *, foreground: float = 0.95, background: float = 0.3) -> Tensor:
    """(H, W) bool for an image (3, H, W), sRGB in [0, 1], and its heat map (H, W), larger on the object.

    Pixels above the `foreground` quantile of the smoothed map are seeds of the object, those below the `background` quantile
    of its surroundings; a random walk over the picture's colours decides the rest (Grady 2006; Simonyan et al. use GraphCut).
    The largest connected piece is kept.
    """
    from skimage.measure import label
    from skimage.segmentation import random_walker

    side = min(heat.shape)
    sigma = max(1.0, side / 50)
    smooth = gaussian_blur(heat[None].cpu().float(), min(round(2 * sigma), side - 1), sigma)[0]
    low, high = torch.quantile(smooth[:: max(1, side // 256)].flatten(), torch.tensor([background, foreground])).tolist()
    if not high > low:
        return torch.zeros(heat.shape, dtype=torch.bool)
    seeds = np.zeros(tuple(heat.shape), dtype=np.int64)
    seeds[smooth.numpy() <= low] = 2
    seeds[smooth.numpy() >= high] = 1
    colors = image.permute(1, 2, 0).cpu().numpy()
    # Only which probability is larger matters, so that they need not lie in [0, 1] to the last digit (prob_tol).
    walked = random_walker(colors, seeds, beta=130, mode="cg_j", tol=1e-3, prob_tol=1.0, channel_axis=-1)
    pieces = label(walked == 1, connectivity=1)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return torch.from_numpy(pieces == sizes.argmax()) if sizes.any() else torch.zeros(heat.shape, dtype=torch.bool)
