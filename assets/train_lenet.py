"""Train `lenet` from scratch on scikit-learn's digits, fold its BatchNorm and write the weights cnnvis ships.

    python assets/train_lenet.py

About a minute on two CPU cores. The recipe and what it reached stand in `assets/lenet.md`.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from cnnvis_cli.engine.network.folding import fold
from cnnvis_cli.networks.bundled import lenet

SIZE = 28
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def load(held_out: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images (N, 1, 28, 28) in [0, 1], white on black, their labels, and the held-out images and labels."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().div(16).unsqueeze(1)
    images = F.interpolate(images, (SIZE, SIZE), mode="bicubic", align_corners=False).clamp_(0, 1)
    labels = torch.from_numpy(digits.target).long()
    rows = np.arange(len(labels))
    train, test = train_test_split(rows, test_size=held_out, stratify=digits.target, random_state=seed)
    return images[train], labels[train], images[test], labels[test]


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Light affine changes (12 degrees, size 0.75 to 1.1, shear 0.15, 2 px), contrast and a little noise, drawn per picture."""
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle, zoom = uniform(-1, 1) * math.radians(12), 1 / uniform(0.75, 1.1)
    shear, x, y = uniform(-0.15, 0.15), uniform(-2, 2) * 2 / SIZE, uniform(-2, 2) * 2 / SIZE
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    theta = torch.stack([cos, shear * cos - sin, x, sin, shear * sin + cos, y], 1).view(n, 2, 3)
    moved = F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)
    moved = moved * uniform(0.8, 1.1).view(n, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator) * uniform(0, 0.05).view(n, 1, 1, 1)
    return (moved + noise).clamp_(0, 1)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 of the module on normalized images."""
    return (network.eval()(images).argmax(1) == labels).float().mean().item()


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    images, labels, test_images, test_labels = load(args.held_out, args.seed)
    mean, std = images.mean(), images.std()
    network = lenet(len(NAMES), batchnorm=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=args.weight_decay)
    steps = len(images) // args.batch
    log: list[dict[str, float]] = []
    began = time.perf_counter()
    for epoch in range(args.epochs):
        network.train()
        order = torch.randperm(len(images), generator=generator)
        losses = []
        for step in range(steps):
            chosen = order[step * args.batch : (step + 1) * args.batch]
            progress = (epoch + step / steps) / args.epochs
            optimizer.param_groups[0]["lr"] = args.lr * 0.5 * (1 + math.cos(math.pi * progress))
            logits = network((augment(images[chosen], generator) - mean) / std)
            loss = F.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if epoch % 10 == 9:
            score = accuracy(network, (test_images - mean) / std, test_labels)
            log.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), "digits": score})
            print(json.dumps(log[-1]), f"{time.perf_counter() - began:.0f} s", flush=True)
    folded = export(network, mean, std, log, args)
    print(f"as shipped: {accuracy(folded.float(), (test_images - mean) / std, test_labels):.4f} of {len(test_labels)} held out")


def export(network: nn.Module, mean: Tensor, std: Tensor, log: list, args: argparse.Namespace) -> nn.Module:
    """Folded, half precision, with all a reader needs in the file's metadata."""
    folded = copy.deepcopy(network).eval()
    fold(folded, torch.zeros(1, 1, SIZE, SIZE))
    state = {key: value.half().contiguous() for key, value in folded.state_dict().items()}
    recipe = {key: str(value) for key, value in vars(args).items() if key != "out"}
    metadata = {
        "architecture": "lenet",
        "classes": json.dumps(NAMES),
        "mean": json.dumps([round(mean.item(), 4)]),
        "std": json.dumps([round(std.item(), 4)]),
        "size": str(SIZE),
        "recipe": json.dumps(recipe),
        "log": json.dumps(log),
    }
    save_file(state, args.out, metadata)
    return folded.half()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("lenet.safetensors"))
    parser.add_argument("--held-out", type=float, default=0.2, help="share of the 1,797 digits that is never trained on")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
