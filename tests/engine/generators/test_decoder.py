"""Decoders: stages, sizes, skips, and how evenly they enlarge."""

from __future__ import annotations

import pytest
import torch

from cnnvis_cli.engine.generators.decoder import Decoder, DecoderShape
from cnnvis_cli.engine.generators.upconv import Upsample

SHAPE = DecoderShape((8, 12, 16), (0, 1, 1), (True, True, True))


def made(shape: DecoderShape = SHAPE) -> Decoder:
    torch.manual_seed(0)
    return Decoder(shape).eval()


@pytest.mark.parametrize("upsample", ["nearest", "bilinear", "transposed", "shuffle"])
@torch.no_grad()
def test_every_level_gives_the_size_of_the_picture(upsample: Upsample, generator: torch.Generator) -> None:
    decoder = made(DecoderShape(SHAPE.channels, SHAPE.doublings, SHAPE.rectified, upsample))
    for level, side in enumerate((32, 16, 8)):
        code = torch.rand(2, SHAPE.channels[level], side, side, generator=generator)
        assert decoder(code, level).shape == (2, 3, 32, 32)


@torch.no_grad()
def test_the_chain_is_its_stages_one_after_the_other(generator: torch.Generator) -> None:
    decoder = made()
    code = torch.rand(1, 16, 8, 8, generator=generator)
    seen: dict[int, torch.Tensor] = {}

    def note(level: int, passing: torch.Tensor) -> torch.Tensor:
        seen[level] = passing
        return passing

    whole = decoder(code, 2, note)
    assert torch.equal(seen[1], decoder.stage(2, code))
    assert torch.equal(seen[0], decoder.stage(1, seen[1]))
    assert torch.equal(whole, decoder.stage(0, seen[0]))
    assert all((value >= 0).all() for value in seen.values())


@torch.no_grad()
def test_the_scale_of_codes_is_taken_out(generator: torch.Generator) -> None:
    decoder, other = made(), made()
    other.scales.copy_(torch.tensor([2.0, 5.0, 10.0]))
    code = torch.rand(1, 16, 8, 8, generator=generator)
    assert torch.allclose(decoder(code, 2), other(10 * code, 2), atol=1e-5)


@torch.no_grad()
def test_skips_are_read(generator: torch.Generator) -> None:
    decoder = made(DecoderShape(SHAPE.channels, SHAPE.doublings, SHAPE.rectified, skips=True, outputs=1))
    codes = [torch.rand(1, c, s, s, generator=generator) for c, s in zip(SHAPE.channels, (32, 16, 8), strict=True)]
    first = decoder(codes[2], 2, beside=codes)
    assert first.shape == (1, 1, 32, 32)
    assert not torch.allclose(first, decoder(codes[2], 2, beside=[0 * codes[0], codes[1], codes[2]]))
