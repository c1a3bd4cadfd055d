"""Networks by commands: what works, what is refused and why, whether every command scores what `forward` returns.

python -m tests.benchmarks.table_networks [--out FILE.jsonl] [NAME ...]   (default: torchvision's and 25 families of timm's)

Random weights, the smallest size that works. One line of JSON per network; a summary at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.config.load import load_config
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import score
from cnnvis_cli.engine.optim.objectives import class_logit
from cnnvis_cli.errors import RunError, UserError
from cnnvis_cli.jobs.run import run_job
from cnnvis_cli.jobs.session import Session, make_session
from cnnvis_cli.networks.libraries import torchvision_names
from cnnvis_cli.pictures.read import find_picture, read, resize
from cnnvis_cli.registry import config_class

TIMM = (
    *("resnet10t", "resnetv2_50x1_bit", "nfnet_l0", "regnetz_b16", "efficientnet_b0", "mobilenetv3_small_050"),
    *("mobilenetv4_conv_small", "repvgg_a0", "convnext_atto", "convnextv2_atto", "densenet121", "dla34", "hrnet_w18_small"),
    *("inception_v3", "vgg11", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224"),
    *("swinv2_tiny_window8_256", "maxvit_tiny_tf_224", "coatnet_0_224", "mixer_s32_224", "ghostnet_050", "rexnet_100"),
    *("tiny_vit_5m_224", "levit_128s", "edgenext_xx_small"),
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "saliency": ("method=gradient", "score=false"),
    "grad_cam": ("method=grad_cam", "score=false"),
    "maximize": ("steps=2", "objective=class:1"),
    "activations": ("count=4",),
    "occlude": ("score=false", "stride=WINDOW", "window=WINDOW"),
    "fool": ("steps=2", "check=0"),
    "invert": ("steps=2", "layers=LAYER"),
}
SIZED = ("saliency", "grad_cam", "maximize", "occlude", "fool", "invert", "activations")


def attempt(call: Callable[[], Any]) -> tuple[str, Any]:
    """(`ok`, the result), or (`refused: ...` or `traceback: ...`, None)."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return "ok", call()
    except (UserError, RunError) as error:
        return f"refused: {error}", None
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"traceback: {type(error).__name__}: {str(error).splitlines()[0][:160]} ({place.filename}:{place.lineno})", None


def small_side(network: Network) -> int:
    """The smallest side that it takes with no pool left empty, at least 32 px and two places of its coarsest maps."""
    if network.sizes.fixed:
        return network.size
    step = max(network.sizes.multiple, 1)
    least = max(network.sizes.smallest, 32, 2 * network.pitch if network.size > 64 else 1)
    return min(network.size, -(-least // step) * step)


def settings_of(command: str, network: Network, side: int) -> list[str]:
    spatial = [name for name, layer in network.layers.items() if layer.spatial]
    layer = spatial[len(spatial) // 2] if spatial else next(iter(network.layers))
    words = {"WINDOW": str(max(1, side // 3)), "LAYER": layer}
    settings = [
        word.partition("=")[0] + "=" + words.get(word.partition("=")[2], word.partition("=")[2]) for word in COMMANDS[command]
    ]
    return [*settings, *([f"size={side}"] if command in SIZED else [])]


def run_command(command: str, model: str, network: Network, side: int, session: Session, folder: Path) -> Any:
    real = "saliency" if command == "grad_cam" else command
    picture = [] if real == "maximize" else ["image=sample:chelsea"]
    settings = [*settings_of(command, network, side), *picture, f"model={model}", "weights=random"]
    config = load_config(config_class(real), real, settings=settings, environment={})
    return run_job(real, config, folder / command, session)


def by_forward(network: Network, picture: Tensor) -> Tensor:
    """Class scores (classes,) straight from the module, for a picture (1, 3, H, W)."""
    with torch.no_grad():
        return network.reading(network.module(network.normalize(picture)))[0]


def agrees(command: str, network: Network, side: int, ran: Any) -> float | None:
    """Largest difference of what a command said from `forward` on the same picture."""
    scores = ran.record.scores
    if command in ("saliency", "grad_cam", "occlude"):
        picture = read(find_picture("sample:chelsea"))
        seen = resize(picture, *network.fitted(picture.shape[2], picture.shape[3], side))
        return abs(by_forward(network, seen).softmax(0).max().item() - scores["value"])
    if command == "maximize":
        saved = read(find_picture(str(ran.files[0])))
        return abs(by_forward(network, saved)[1].item() - scores["value"])
    if command == "fool":
        saved = read(find_picture(str(next(path for path in ran.files if path.name.endswith("original.png")))))
        return abs(by_forward(network, saved).softmax(0).max().item() - scores["probability_before"])
    return None


def examine(model: str) -> dict[str, Any]:
    """One network: what was measured, what every command did with it."""
    began = time.perf_counter()
    session = make_session("cpu", quiet=True)
    config = NetworkConfig.model_validate({"model": model, "weights": "random"})
    said, loaded = attempt(lambda: session.network(config)[0])
    row: dict[str, Any] = {"model": model, "load": said}
    if loaded is None:
        return row
    network: Network = loaded
    said, side = attempt(lambda: small_side(network))
    row |= {"takes": network.sizes.describe(), "returns": network.reading.describe(), "side": side, "measured": said}
    if side is None:
        return row
    kinds = Counter(f"{layer.layout.kind}{'' if layer.layout.channel == 1 else ' last'}" for layer in network.layers.values())
    row["layers"] = dict(kinds)
    picture = F.interpolate(read(find_picture("sample:chelsea")), (side, side), mode="area")
    said, value = attempt(lambda: score(network, class_logit(network, 1), picture).item())
    row["objective"] = said if value is None else abs(value - by_forward(network, picture)[1].item())
    differences = []
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            said, ran = attempt(lambda c=command: run_command(c, model, network, side, session, Path(folder)))  # type: ignore[misc]
            row[command] = said
            if ran is not None and (difference := agrees(command, network, side, ran)) is not None:
                differences.append(difference)
    row["largest_difference"] = max(differences, default=None)
    row["seconds"] = round(time.perf_counter() - began, 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("networks.jsonl"))
    given = parser.parse_args()
    names = given.names or [*torchvision_names(), *(f"timm:{name}" for name in TIMM)]
    counts: Counter[str] = Counter()
    with given.out.open("a", encoding="utf-8") as file:
        for name in names:
            row = examine(name)
            file.write(json.dumps(row) + "\n")
            file.flush()
            for command in ("load", *COMMANDS):
                counts[f"{command} {str(row.get(command, 'not tried')).partition(':')[0]}"] += 1
            print(name, {k: v for k, v in row.items() if k != "layers"}, flush=True)
            gc.collect()
    print(dict(sorted(counts.items())))


if __name__ == "__main__":
    main()
