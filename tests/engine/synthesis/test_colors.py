"""Colours of one picture on another."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnvis_cli.engine.pixels import LUMA
from cnnvis_cli.engine.synthesis.colors import recolored, with_colors_of


def luma(pictures: Tensor) -> Tensor:
    return (pictures * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1)


def test_luma_is_kept_and_chroma_taken(images: Tensor) -> None:
    one, other = images[:1], images[1:]
    mixed = with_colors_of(one, other)
    torch.testing.assert_close(luma(mixed), luma(one), atol=1e-5, rtol=0)
    torch.testing.assert_close(with_colors_of(one, one), one, atol=1e-5, rtol=0)
    grey = other.mean(1, keepdim=True).expand_as(other)
    assert with_colors_of(one, grey).std(1).max() < 1e-5  # the colours of a grey picture are none


def test_recolored_has_the_mean_and_covariance_of_the_goal(images: Tensor) -> None:
    mix = torch.tensor([[0.3, 0.1, 0.0], [0.1, 0.2, 0.0], [0.05, 0.1, 0.2]])
    goal = torch.einsum("dc,bchw->bdhw", mix, images[:1]) + 0.25
    found = recolored(0.3 + 0.4 * images[1:], goal)[0].flatten(1)
    torch.testing.assert_close(found.mean(1), goal[0].flatten(1).mean(1), atol=2e-3, rtol=0)
    torch.testing.assert_close(torch.cov(found), torch.cov(goal[0].flatten(1)), atol=1e-3, rtol=0)
