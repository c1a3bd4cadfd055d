"""Transfer in one pass at 512 px against AdaIN's network (VGG-19 to relu4_1 and its mirror; Huang and Belongie 2017) with
random weights, as speed does not depend on them; and inversion in one pass against the optimizer at its default steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.config.invert import InvertConfig
from cnnvis_cli.engine.generators.decoder import Decoder
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.loop import synthesize
from cnnvis_cli.engine.optim.parameterizations import Fourier
from cnnvis_cli.engine.statistics.transports import TRANSPORTS, Transport
from cnnvis_cli.engine.synthesis import inversion
from cnnvis_cli.engine.synthesis.style import Region
from cnnvis_cli.engine.synthesis.transfers import Exchange, level_targets, targets, transferred
from cnnvis_cli.networks.decoders import load_decoder
from cnnvis_cli.networks.load import load_network
from cnnvis_cli.networks.spec import NetworkSpec
from tests.benchmarks.timing import duel, seconds

SIZE = 512
_WIDTHS = ((64, 64), (128, 128), (256, 256, 256, 256), (512,))


def _pictures(size: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


class AdaInNetwork:
    """VGG-19 to relu4_1 and the mirrored decoder, as the paper's tables give them: 3.5 M weights each."""

    def __init__(self) -> None:
        down: list[nn.Module] = []
        channels = 3
        for number, widths in enumerate(_WIDTHS):
            down += [nn.MaxPool2d(2)] if number else []
            for width in widths:
                down += [nn.Conv2d(channels, width, 3, padding=1, padding_mode="reflect"), nn.ReLU()]
                channels = width
        up: list[nn.Module] = []
        plan = [(512, 256), "up", (256, 256), (256, 256), (256, 256), (256, 128), "up", (128, 128), (128, 64), "up", (64, 64)]
        for step in plan:
            if step == "up":
                up.append(nn.Upsample(scale_factor=2, mode="nearest"))
            else:
                up += [nn.Conv2d(*step, 3, padding=1, padding_mode="reflect"), nn.ReLU()]
        up.append(nn.Conv2d(64, 3, 3, padding=1, padding_mode="reflect"))
        self.encoder, self.decoder = (nn.Sequential(*part).eval().requires_grad_(False) for part in (down, up))

    @torch.no_grad()
    def __call__(self, content: Tensor, style: Tensor) -> Tensor:
        code, goal = self.encoder(content), self.encoder(style)
        (spread, mean), (wanted, centre) = (torch.std_mean(one, (2, 3), keepdim=True) for one in (code, goal))
        return self.decoder((code - mean) / (spread + 1e-5) * wanted + centre)


def ours(network: Network, decoder: Decoder, layers: list[str], transport: Transport) -> Callable[[Tensor, Tensor], Tensor]:
    """The command's way: codes of the style, statistics exchanged at all but the deepest level."""
    at = layers[:-1]

    def run(content: Tensor, style: Tensor) -> Tensor:
        regions = [Region(targets(transport, [level_targets(network, style, at)], [1.0]))]
        return transferred(network, decoder, content, Exchange(transport, layers, frozenset(range(len(at))), regions))

    return run


def optimized(network: Network, layer: str, picture: Tensor) -> Callable[[], object]:
    """`invert` as it is for fine maps by default, on codes of this picture."""
    config = InvertConfig(image="-")
    code = inversion.layer_code(network, layer, picture)
    units = inversion.natural_units(network, layer, picture)
    goal = inversion.inversion_objective(
        layer, code, units, tolerance=config.tolerance, variation=config.variation, norm_weight=config.norm
    )

    def run() -> object:
        start = Fourier.from_noise([0], picture.shape[2], picture.shape[3], std=0.12)
        return synthesize(inversion.inversion_loop(network, goal, start, steps=400, rate=0.2))

    return run


def main() -> None:
    device = torch.device("cpu")
    network, _ = load_network(NetworkSpec("minivgg"), device)
    file = load_decoder("decoder", "minivgg", device)
    layers = list(file.levels)
    peer, content, style = AdaInNetwork(), _pictures(SIZE), _pictures(SIZE).flip(2)
    for method in ("adain", "transport"):
        run = ours(network, file.network, layers, TRANSPORTS[method]())
        print(
            f"{method} at {SIZE} px, VGG-19's AdaIN: {duel(lambda run=run: run(content, style), lambda: peer(content, style))}"
        )
    picture = F.avg_pool2d(_pictures(2 * network.size), 2)
    for number, layer in enumerate(layers):
        code = inversion.layer_code(network, layer, picture)
        with torch.no_grad():
            file.network(code, number)
            passes = min(seconds(lambda number=number, code=code: file.network(code, number)) for _ in range(7))
        steps = seconds(optimized(network, layer, picture))
        print(f"{layer}: one pass {1e3 * passes:.1f} ms, the optimizer {steps:.1f} s: {steps / passes:.0f} times as fast")


if __name__ == "__main__":
    main()
