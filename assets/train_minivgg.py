"""Train `minivgg` from scratch on Caltech-101 and Imagenette, fold its BatchNorm and write the weights cnnvis ships.

    python assets/train_minivgg.py --data FOLDER --out assets/minivgg.safetensors

FOLDER holds `caltech101/` (class folders, `train.txt`, `test.txt`) and `imagenette/` (`train/`, `val/`), short side 96 px.
About an hour and a half on two CPU cores. The recipe and what it reached stand in `assets/minivgg.md`.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cnnvis_cli.engine.network.folding import fold
from cnnvis_cli.networks.bundled import minivgg

SIZE = 96
RESIZE = 110  # short side before the centre crop when it is judged and used: torchvision's 256 to 224
IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
# Folder names of Caltech-101 that are not yet readable words.
CALTECH = {"Faces": "face", "Faces_easy": "face close-up", "Motorbikes": "motorbike", "airplanes": "airplane"}
CALTECH |= {"Leopards": "leopard", "water_lilly": "water lily", "car_side": "car"}


@dataclass(frozen=True)
class Split:
    """Decoded pictures (H, W, 3) uint8 of short side 96 with their class indices."""

    pictures: list[np.ndarray]
    labels: Tensor


def decode(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def read(paths: list[tuple[Path, int]]) -> Split:
    with ThreadPoolExecutor(2) as pool:
        pictures = list(pool.map(lambda item: decode(item[0]), paths))
    return Split(pictures, torch.tensor([label for _, label in paths]))


def load(root: Path, repeat: int) -> tuple[list[str], Split, dict[str, Split]]:
    """Class names, the joint training split, and the two held-out splits."""
    caltech, nette = root / "caltech101", root / "imagenette"
    folders = sorted(p.name for p in caltech.iterdir() if p.is_dir())
    names = [CALTECH.get(f, f.replace("_", " ")) for f in folders] + list(IMAGENETTE.values())

    def listed(name: str) -> list[tuple[Path, int]]:
        items = []
        for line in (caltech / name).read_text().split():
            folder = line.split("/")[0]
            if folder in folders:  # the background class is left out
                items.append(((caltech / line).with_suffix(".webp"), folders.index(folder)))
        return items

    def foldered(name: str) -> list[tuple[Path, int]]:
        offset = len(folders)
        return [(p, offset + i) for i, wnid in enumerate(IMAGENETTE) for p in sorted((nette / name / wnid).iterdir())]

    train = read(listed("train.txt") + repeat * foldered("train"))
    return names, train, {"caltech101": read(listed("test.txt")), "imagenette": read(foldered("val"))}


def batches(split: Split, batch: int, size: int, min_area: float, rng: random.Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented batches in [0, 1]: one crop size and aspect per batch (so it is one resize), own place and flip each."""
    order = list(range(len(split.pictures)))
    rng.shuffle(order)
    for start in range(0, len(order) - batch + 1, batch):
        indices = order[start : start + batch]
        area, ratio = rng.uniform(min_area, 1.0), math.exp(rng.uniform(-0.25, 0.25))
        height = min(SIZE, round(SIZE * math.sqrt(area / ratio)))
        width = min(SIZE, round(SIZE * math.sqrt(area * ratio)))
        crops = []
        for i in indices:
            picture = split.pictures[i]
            y, x = rng.randint(0, picture.shape[0] - height), rng.randint(0, picture.shape[1] - width)
            crop = picture[y : y + height, x : x + width]
            crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)
        images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
        yield color_jitter(images), split.labels[indices]


def color_jitter(images: Tensor) -> Tensor:
    """Brightness, contrast and saturation per picture, and a little noise: smoother first layers, cleaner gradients."""
    n = len(images)
    brightness, contrast, saturation = (1 + 0.6 * (torch.rand(3, n, 1, 1, 1) - 0.5)).unbind(0)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = ((images - mean) * contrast + mean) * brightness
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * saturation + grey
    return (images + 0.04 * torch.rand(n, 1, 1, 1) * torch.randn_like(images)).clamp_(0, 1)


def centre(picture: np.ndarray) -> np.ndarray:
    """The crop a photograph is judged by: short side RESIZE, the middle SIZE x SIZE."""
    height, width = picture.shape[:2]
    scale = RESIZE / min(height, width)
    resized = Image.fromarray(picture).resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    x, y = (resized.width - SIZE) // 2, (resized.height - SIZE) // 2
    return np.asarray(resized.crop((x, y, x + SIZE, y + SIZE)))


@torch.no_grad()
def accuracy(network: nn.Module, split: Split, normalize: nn.Module, batch: int = 250) -> float:
    """Top-1 over all classes on the centre crop."""
    network.eval()
    hits = 0
    for start in range(0, len(split.pictures), batch):
        crops = np.stack([centre(picture) for picture in split.pictures[start : start + batch]])
        images = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255)
        images = normalize(images).contiguous(memory_format=torch.channels_last)
        hits += (network(images).argmax(1) == split.labels[start : start + batch]).sum().item()
    return hits / len(split.pictures)


def adversarial(network: nn.Module, normalize: nn.Module, images: Tensor, labels: Tensor, eps: float, bf16: bool) -> Tensor:
    """One L2 gradient step of length up to eps: a mildly robust network has gradients, and so pictures, that people can read
    (Engstrom et al. 2019, "Adversarial robustness as a prior for learned representations")."""
    network.eval()
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = network(normalize(images))
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits.float(), labels), images)
    network.train()
    norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    return (images.detach() + eps * torch.rand(len(images), 1, 1, 1).sqrt() * gradient / norm).clamp_(0, 1)


class Normalize(nn.Module):
    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean, self.std = mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def resolution(epoch: float, epochs: int) -> int:
    """Small pictures first: most of the learning at under half of the cost."""
    return 64 if epoch < 0.6 * epochs else 80 if epoch < 0.8 * epochs else SIZE


def start(args: argparse.Namespace, classes: int) -> nn.Module:
    """A fresh network with BatchNorm, or the folded one of `--start`, without."""
    if args.start:
        network = minivgg(classes)
        network.load_state_dict({key: value.float() for key, value in load_file(args.start).items()})
        return network
    network = minivgg(classes, batchnorm=True)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


@torch.no_grad()
def unfold(folded: nn.Module, images: Tensor, classes: int) -> nn.Module:
    """The same function with BatchNorm again, for a second long run: a convolution is divided by the deviation of its output
    on normalized `images`, and its BatchNorm multiplies by it."""
    network = minivgg(classes, batchnorm=True)
    layers, old = dict(network.named_children()), dict(folded.named_children())
    layers["fc"].load_state_dict(old["fc"].state_dict())
    for name, conv in old.items():
        if not isinstance(conv, nn.Conv2d):
            images = conv(images)
            continue
        outputs = F.conv2d(images, conv.weight, padding=conv.padding)
        mean, deviation = outputs.mean((0, 2, 3)), outputs.std((0, 2, 3)).clamp_min(1e-3)
        norm = layers[name.replace("conv", "bn")]
        layers[name].weight.copy_(conv.weight / deviation.view(-1, 1, 1, 1))
        norm.weight.copy_(deviation)
        norm.bias.copy_(conv.bias + mean)
        norm.running_mean.copy_(mean / deviation)
        images = outputs + conv.bias.view(1, -1, 1, 1)
    return network


def descent(network: nn.Module, args: argparse.Namespace) -> torch.optim.SGD:
    """Biases and BatchNorm's weights do not decay."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=args.lr, momentum=0.9, nesterov=True)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    for a, b in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        a.lerp_(b, 1 - decay) if a.is_floating_point() else a.copy_(b)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    names, data, held_out = load(args.data, args.repeat)
    pixels = torch.from_numpy(np.stack([p[:SIZE, :SIZE] for p in data.pictures[::5]])).float().div_(255).view(-1, 3)
    mean, std = pixels.mean(0), pixels.std(0)
    normalize = Normalize(mean, std)
    network = start(args, len(names))
    if args.batchnorm:
        network = unfold(network, normalize(next(batches(data, 512, 64, args.min_area, rng))[0]), len(names))
    network = network.to(memory_format=torch.channels_last)
    forward = torch.compile(network) if args.compile else network
    average = copy.deepcopy(network)
    optimizer = descent(network, args)
    steps = len(data.pictures) // args.batch
    log: list[dict[str, float]] = []
    began = time.perf_counter()
    for epoch in range(args.stop or args.epochs):
        network.train()
        size = args.size or resolution(epoch, args.epochs)
        robust = epoch >= args.epochs - args.adversarial_epochs
        # Whole pictures, unmixed, at the end: what the network is then asked about (Touvron et al. 2019, FixRes).
        last = size == SIZE and not args.size
        area, mixup = (max(0.6, args.min_area), 0.0) if last else (args.min_area, args.mixup)
        losses = []
        for step, (images, labels) in enumerate(batches(data, args.batch, size, area, rng)):
            progress = (epoch + step / steps) / args.epochs
            warm = min(1.0, progress * args.epochs / (0.2 if args.start else 1.5))
            for group in optimizer.param_groups:
                group["lr"] = args.lr * warm * 0.5 * (1 + math.cos(math.pi * progress)) + 1e-5
            images = images.contiguous(memory_format=torch.channels_last)
            if robust:
                images = adversarial(network, normalize, images, labels, args.epsilon, args.bf16)
            targets = F.one_hot(labels, len(names)).float()
            if not robust and rng.random() < mixup:  # Zhang et al. 2018
                share, other = rng.betavariate(0.2, 0.2), torch.randperm(len(labels))
                images = share * images + (1 - share) * images[other]
                targets = share * targets + (1 - share) * targets[other]
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                logits = forward(normalize(images))
            loss = F.cross_entropy(logits.float(), targets, label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if args.start and not args.batchnorm:  # without BatchNorm a rare large gradient would undo much
                nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimizer.step()
            losses.append(loss.item())
            decay = min(0.998, (1 + epoch * steps + step) / (10 + epoch * steps + step))
            follow(average, network, decay)
            if step % 20 == 0:
                print(
                    f"{epoch} {step}/{steps} {time.perf_counter() - began:.0f} s loss {np.mean(losses[-20:]):.3f}", flush=True
                )
        late = epoch % 4 == 3 or epoch >= args.epochs - 8
        scores = {name: accuracy(average, split, normalize) for name, split in held_out.items()} if late else {}
        log.append({"epoch": epoch + 1, "size": size, "loss": float(np.mean(losses)), **scores})
        print(json.dumps(log[-1]), f"{time.perf_counter() - began:.0f} s", flush=True)
        export(average, names, mean, std, log, args)


def export(network: nn.Module, names: list[str], mean: Tensor, std: Tensor, log: list, args: argparse.Namespace) -> None:
    """Folded, half precision, with all a reader needs in the file's metadata."""
    folded = copy.deepcopy(network).eval()
    fold(folded, torch.zeros(1, 3, SIZE, SIZE))
    state = {key: value.half().contiguous() for key, value in folded.state_dict().items()}
    recipe = {key: str(value) for key, value in vars(args).items() if key not in ("data", "out")}
    metadata = {
        "architecture": "minivgg",
        "classes": json.dumps(names),
        "mean": json.dumps([round(v, 4) for v in mean.tolist()]),
        "std": json.dumps([round(v, 4) for v in std.tolist()]),
        "size": str(SIZE),
        "resize": str(RESIZE),
        "recipe": json.dumps(recipe),
        "log": json.dumps(log),
    }
    save_file(state, args.out, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("minivgg.safetensors"))
    parser.add_argument("--start", type=Path, help="finish these weights, written by an earlier run, without BatchNorm")
    parser.add_argument("--batchnorm", action="store_true", help="give the weights of --start their BatchNorm back")
    parser.add_argument("--compile", action="store_true", help="torch.compile: 1.4 times as fast on the CPU we had")
    parser.add_argument("--stop", type=int, help="end after so many epochs of the schedule")
    parser.add_argument("--size", type=int, help="train at this size throughout")
    parser.add_argument("--epochs", type=int, default=32)
    parser.add_argument("--adversarial-epochs", type=int, default=6)
    parser.add_argument("--epsilon", type=float, default=0.5, help="L2 length of the adversarial step, pixels in [0, 1]")
    parser.add_argument("--repeat", type=int, default=1, help="how often an epoch shows Imagenette, the harder pictures")
    parser.add_argument("--mixup", type=float, default=0.5, help="share of the batches that are mixed")
    parser.add_argument("--min-area", type=float, default=0.35, help="of a random crop, as a share of the picture")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--bf16", action="store_true", help="autocast the forward pass to bfloat16 where the CPU is fast at it")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
