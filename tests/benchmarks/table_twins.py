"""The standard network beside its robust twin: where saliency lies, and what a deep layer keeps.

python -m tests.benchmarks.table_twins
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnvis_cli.engine.attribution.gradients import gradient, strongest
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.loop import Loop, synthesize
from cnnvis_cli.engine.optim.objectives import class_logit, content
from cnnvis_cli.engine.optim.parameterizations import Pixels, noise
from cnnvis_cli.engine.pixels import eight_bit
from cnnvis_cli.engine.synthesis.inversion import code_distance, layer_code, similarity
from cnnvis_cli.networks.load import NetworkSpec, load_network
from cnnvis_cli.pictures.read import read, to_square
from cnnvis_cli.pictures.samples import labelled_samples, sample_boxes

TWINS = ("minivgg", "minivgg_robust")


def energy_inside(network: Network) -> Tensor:
    """For each labelled sample: the share of the gradient's magnitude inside the object's box over the share of its area."""
    boxes, shares = sample_boxes(), []
    for source in labelled_samples():
        picture = read(source)
        label = source.label.replace("_", " ")
        heat = strongest(gradient(network, picture, class_logit(network, network.class_index(label))))[0]
        left, top, right, bottom = boxes[source.name]
        inside = heat[top:bottom, left:right].sum() / heat.sum()
        area = (right - left) * (bottom - top) / heat.numel()
        shares.append(inside / area)
    return torch.stack(shares)


def inverted(network: Network, picture: Tensor, layer: str = "relu5_2", steps: int = 300) -> tuple[float, float]:
    """SSIM with the picture and code distance of an inversion from noise without any prior, as an 8-bit picture."""
    code = layer_code(network, layer, picture)
    start = (0.5 + 0.1 * noise([0], 3, *picture.shape[-2:])).clamp(0, 1)
    loop = Loop(Pixels(start), value_gradient(network, content(layer, code)), steps, rate=0.03)
    found = eight_bit(synthesize(loop).pictures)
    return similarity(found, picture), code_distance(layer_code(network, layer, found), code).item()


def main() -> None:
    networks = [load_network(NetworkSpec(name), torch.device("cpu"))[0] for name in TWINS]
    inside = [energy_inside(network) for network in networks]
    difference = inside[1] - inside[0]
    error = difference.std() / len(difference) ** 0.5
    for name, shares in zip(TWINS, inside, strict=True):
        print(f"{name}: gradient inside the box over its area's share, mean of {len(shares)}: {shares.mean():.3f}")
    print(f"robust minus standard: {difference.mean():.3f}, 95% within {1.96 * error:.3f}")
    chosen = list({source.label: source for source in labelled_samples()}.values())[:10]
    wins = 0
    for source in chosen:
        picture = to_square(read(source), networks[0].size)
        (standard, far), (robust, near) = (inverted(network, picture) for network in networks)
        wins += robust > standard
        print(
            f"{source.name}: SSIM standard {standard:.3f} (code {far:.3f}), robust {robust:.3f} (code {near:.3f})", flush=True
        )
    print(f"higher for the robust twin: {wins} of {len(chosen)}")


if __name__ == "__main__":
    main()
