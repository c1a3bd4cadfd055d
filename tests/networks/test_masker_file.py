"""The bundled masker, on labelled samples: nothing it learned from."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.networks.decoders import load_masker
from cnnvis_cli.pictures.read import read, resize
from cnnvis_cli.pictures.samples import labelled_samples, sample_boxes


@torch.no_grad()
def test_masks_lie_on_the_object(minivgg: Network) -> None:
    """The box around a mask against the box that was drawn by eye: better than the whole picture, which is half of it."""
    file = load_masker("", "minivgg", torch.device("cpu"))
    found, everything = [], []
    for source in labelled_samples()[::6]:
        picture = read(source)
        seen = resize(picture, *minivgg.fitted(*picture.shape[-2:], None))
        codes = activations(minivgg, seen, file.levels)
        small = file.network([codes[level] for level in file.levels], minivgg(seen).argmax(1))
        mask = F.interpolate(small, picture.shape[-2:], mode="bilinear", align_corners=False)[0, 0] > 0.5
        left, top, right, bottom = sample_boxes()[source.name]
        drawn = torch.zeros_like(mask)
        drawn[top:bottom, left:right] = True
        boxed = mask.any(1, keepdim=True) & mask.any(0, keepdim=True)
        found.append((boxed & drawn).sum().item() / (boxed | drawn).sum().item())
        everything.append(drawn.float().mean().item())
    assert sum(found) / len(found) > 0.65
    assert sum(found) > sum(everything) + 0.1 * len(found)
