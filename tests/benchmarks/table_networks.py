"""Networks by commands: what works, what is refused and why, whether every command scores what `forward` returns, and
whether Grad-CAM is that of pytorch-grad-cam and captum.

python -m tests.benchmarks.table_networks [--out FILE.jsonl] [--summary] [NAME ...]   (default: torchvision's and 25 families
of timm's, small ones first)

Random weights, the smallest size that works. One line of JSON per network, with seconds; networks that stand in the file are
passed over. `--summary` reads the file and runs nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import math
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.config.load import load_config
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.errors import RunError, UserError
from cnnvis_cli.jobs.run import run_job
from cnnvis_cli.jobs.session import Session, make_session
from cnnvis_cli.networks.libraries import torchvision_names
from cnnvis_cli.networks.spec import NetworkSpec
from cnnvis_cli.pictures.read import find_picture, read, resize
from cnnvis_cli.registry import config_class
from tests.benchmarks.peers import Untouched, compare_grad_cam, folded

TIMM = (
    *("resnet10t", "resnetv2_50x1_bit", "nfnet_l0", "regnetz_b16", "efficientnet_b0", "mobilenetv3_small_050"),
    *("mobilenetv4_conv_small", "repvgg_a0", "convnext_atto", "convnextv2_atto", "densenet121", "dla34", "hrnet_w18_small"),
    *("inception_v3", "vgg11", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224"),
    *("swinv2_tiny_window8_256", "maxvit_tiny_tf_224", "coatnet_0_224", "mixer_s32_224", "ghostnet_050", "rexnet_100"),
    *("tiny_vit_5m_224", "levit_128s", "edgenext_xx_small"),
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "saliency": ("method=gradient", "score=false", "target=class:1"),
    "grad_cam": ("method=grad_cam", "score=false", "target=class:1"),
    "maximize": ("steps=2", "objective=class:1"),
    "activations": ("count=4",),
    "occlude": ("score=false", "target=class:1", "stride=WINDOW", "window=WINDOW"),
    "fool": ("steps=2", "check=0"),
    "invert": ("steps=2", "layers=LAYER"),
}
# Differences up to these are rounding: of class scores over the largest of them, of a map over its largest value.
SCORES, MAPS = 1e-4, 1e-3
# From so many pixels of a side on occlusion covers quarters of the picture, not ninths: a window is a forward pass.
LARGE = 400


def attempt(call: Callable[[], Any]) -> tuple[str, Any]:
    """(`ok`, the result), or (`refused: ...` or `traceback: ...`, None)."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return "ok", call()
    except (UserError, RunError) as error:
        return f"refused: {error}", None
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = (str(error).splitlines() or [""])[0][:160]
        return f"traceback: {type(error).__name__}: {words} ({place.filename}:{place.lineno})", None


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
    words = {"WINDOW": str(max(1, side // (2 if side > LARGE else 3))), "LAYER": layer}
    settings = [
        word.partition("=")[0] + "=" + words.get(word.partition("=")[2], word.partition("=")[2]) for word in COMMANDS[command]
    ]
    return [*settings, f"size={side}"]


def run_command(command: str, source: NetworkConfig, network: Network, side: int, session: Session, folder: Path) -> Any:
    real = "saliency" if command == "grad_cam" else command
    picture = [] if real == "maximize" else ["image=sample:chelsea"]
    settings = [*settings_of(command, network, side), *picture, f"model={source.model}", f"weights={source.weights}"]
    config = load_config(config_class(real), real, settings=settings, environment={})
    return run_job(real, config, folder / command, session)


def saved(ran: Any, ending: str = ".png") -> Tensor:
    return read(find_picture(str(next(path for path in ran.files if path.name.endswith(ending)))))


def largest(values: Tensor) -> float:
    return values.abs().max().clamp_min(1e-30).item()


def differences(command: str, network: Network, untouched: Untouched, side: int, ran: Any) -> Iterator[float]:
    """How far what a command said is from what the untouched module says of the same picture, over its largest answer.

    `invert` says no class score; `activations` says the largest value of a layer.
    """
    said = ran.record.scores
    photo = read(find_picture("sample:chelsea"))
    seen = resize(photo, *network.fitted(photo.shape[2], photo.shape[3], side))
    if command in ("saliency", "grad_cam", "occlude"):
        scores = untouched(seen)
        yield abs(scores[1].item() - said["value"]) / largest(scores)
    elif command == "maximize":
        scores = untouched(saved(ran))
        yield abs(scores[1].item() - said["value"]) / largest(scores)
    elif command == "fool":
        for picture, key in ((saved(ran, "original.png"), "probability_before"), (saved(ran), "probability")):
            scores = untouched(picture)
            yield abs(scores.log_softmax(0).max().item() - math.log(said[key])) / scores.abs().max().clamp_min(1).item()
    elif command == "activations":
        layer = network.layer(said["layer"])
        given = untouched.given_by(layer.name, seen)
        if layer.layout.kind == "maps" and len(given) == 1 and not folded(network, untouched, layer.name):
            yield abs(given[0].max().item() - said["strongest_value"]) / largest(given[0])


def examine(model: str) -> dict[str, Any]:
    """One network: what was measured, what every command did with it, what its peers say."""
    with tempfile.TemporaryDirectory() as folder:
        return _examine(model, Path(folder))


def _examine(model: str, folder: Path) -> dict[str, Any]:
    began = time.perf_counter()
    session = make_session("cpu", quiet=True)
    said, untouched = attempt(lambda: Untouched(NetworkSpec(model, "random")))
    weights = "random" if untouched is None else untouched.weights_that_answer(folder / "weights.pth")
    config = NetworkConfig.model_validate({"model": model, "weights": weights})
    start = time.perf_counter()
    said, loaded = attempt(lambda: session.network(config)[0])
    row: dict[str, Any] = {"model": model, "load": said, "seconds": {"load": round(time.perf_counter() - start, 1)}}
    if loaded is None:
        return row
    network: Network = loaded
    said, side = attempt(lambda: small_side(network))
    row |= {"takes": network.sizes.describe(), "returns": network.reading.describe(), "side": side, "measured": said}
    if side is None:
        return row
    kinds = Counter(f"{layer.layout.kind}{'' if layer.layout.channel == 1 else ' last'}" for layer in network.layers.values())
    row |= {"layers": dict(kinds), "weights": Path(weights).stem, "differences": {}}
    for command in COMMANDS:
        start = time.perf_counter()
        said, ran = attempt(lambda c=command: run_command(c, config, network, side, session, folder))  # type: ignore[misc]
        row["seconds"][command] = round(time.perf_counter() - start, 1)
        row[command] = said
        if ran is not None:
            found = list(differences(command, network, untouched, side, ran))
            row["differences"] |= {command: max(found)} if found else {}
    picture = F.interpolate(read(find_picture("sample:chelsea")), (side, side), mode="area")
    start = time.perf_counter()
    said, compared = attempt(lambda: compare_grad_cam(network, untouched, picture))
    row["peers"] = compared if compared is not None else {"unsupported": said}
    row["seconds"] |= {"peers": round(time.perf_counter() - start, 1), "all": round(time.perf_counter() - began, 1)}
    return row


def small_first(names: Sequence[str]) -> list[str]:
    """By the multiplications of a pass, as torchvision tells them; the chosen ones of timm's are all small."""
    from torchvision import models

    def cost(name: str) -> float:
        return 5.0 if name.startswith("timm:") else models.get_model_weights(name).DEFAULT.meta["_ops"]

    return sorted(names, key=cost)


def summary(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """In lines: cells that are ok, every refusal and traceback, the largest differences and all beyond rounding."""
    cells = [(row["model"], command, row.get(command, "not tried")) for row in rows for command in ("load", *COMMANDS)]
    commands = [cell for cell in cells if cell[1] != "load"]
    kinds = Counter(said.partition(":")[0] for _, _, said in commands)
    yield f"{len(rows)} networks, {len(commands)} cells: {dict(kinds)}"
    yield from (f"  {model} {command}: {said}" for model, command, said in cells if said != "ok")
    found = [(value, row["model"], command) for row in rows for command, value in row.get("differences", {}).items()]
    for command in COMMANDS:
        ones = [one for one in found if one[2] == command]
        if ones:
            yield f"{command}: {len(ones)} values compared with the untouched module's; largest difference {max(ones)[:2]}"
    yield from (f"  beyond {SCORES}: {one}" for one in found if not one[0] <= SCORES)
    for peer in ("pytorch-grad-cam", "pytorch-grad-cam as it is", "captum"):
        said = [(row["peers"][peer], row["model"]) for row in rows if peer in row.get("peers", {})]
        numbers = [one for one in said if isinstance(one[0], float)]
        others = [f"{name}: {what}" for what, name in said if isinstance(what, str)] or "no other"
        yield f"Grad-CAM, {peer}: {len(numbers)} networks, largest difference {max(numbers, default=None)}; {others}"
        yield from (f"  beyond {MAPS}: {one}" for one in numbers if not one[0] <= MAPS)
    unsupported = [f"{row['model']}: {row['peers']['unsupported']}" for row in rows if "unsupported" in row.get("peers", {})]
    yield f"no peer for Grad-CAM: {len(unsupported)} networks {unsupported}"
    yield f"{sum(row['seconds'].get('all', 0) for row in rows):.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("networks.jsonl"))
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    there = {row["model"] for row in rows}
    names = given.names or small_first([*torchvision_names(), *(f"timm:{name}" for name in TIMM)])
    with given.out.open("a", encoding="utf-8") as file:
        for name in [] if given.summary else [name for name in names if name not in there]:
            rows.append(row := examine(name))
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(name, {k: v for k, v in row.items() if k != "layers"}, flush=True)
            gc.collect()
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
