"""`invert method=decoder`: every level's picture in one pass, beside what the optimizer finds for the same codes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.synthesis import inversion
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.sheet import sheet

# Pixels: narrower pictures are enlarged on a page, so that the words under them can be read on a slide.
LEAST_TILE = 128


@dataclass(frozen=True)
class Found:
    """A picture (1, 3, H, W) for a layer's code, by which method, and the seconds it took."""

    method: str
    layer: str
    picture: Tensor
    seconds: float


def timed(call: Any, *given: Any) -> tuple[Any, float]:
    """What it gives, and its seconds the second time: the first also sets things up."""
    call(*given)
    began = time.perf_counter()
    made = call(*given)
    return made, time.perf_counter() - began


def save_page(
    job: Job,
    network: Network,
    layers: Sequence[str],
    codes: Mapping[str, Tensor],
    original: Tensor | None,
    rows: Mapping[str, Sequence[Found]],
) -> None:
    """The sheet (a row per method), the table, and the scores of the saved pictures."""
    tiles, captions = [], []
    whose: list[Found | None] = []
    for method, row_of in rows.items():
        if original is not None:
            tiles.append(original[0])
            captions.append("original")
            whose.append(None)
        for one in row_of:
            tiles.append(one.picture[0])
            captions.append(f"{one.layer}\n{method}, {shown(one.seconds)}")
            whose.append(one)
    page = sheet(tiles, captions, columns=len(layers) + (original is not None), least=LEAST_TILE)
    saved = job.results.save_image(page.image)
    table = []
    for number, there in enumerate(whose):
        if there is None:
            continue
        one = there
        picture = page.tile(saved, number)
        code = codes[one.layer]
        distance = inversion.code_distance(inversion.layer_code(network, one.layer, picture), code).item()
        row: dict[str, Any] = {"method": one.method, "layer": one.layer, "code_distance": distance}
        if original is not None:
            row["psnr"] = inversion.psnr(picture, original)
            row["ssim"] = inversion.similarity(picture, original)
        table.append(row | {"seconds": round(one.seconds, 5)})
    header = list(table[0])
    job.results.save_csv(header, [[row[key] for key in header] for row in table], "table")
    job.scores["layers"] = table
    times = {(one.method, one.layer): one.seconds for one in whose if one is not None}
    if len(rows) > 1:
        ratios = [times["optimizer", layer] / times["decoder", layer] for layer in layers]
        job.record.note(seconds_of_the_optimizer_by_those_of_the_decoder=[round(ratio) for ratio in ratios])


def shown(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.0f} s"
