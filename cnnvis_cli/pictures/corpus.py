"""Many pictures to learn from: crops of any folder of any sizes, in memory as 8 bits as far as the bound allows.

What is drawn follows from a generator that the caller makes of seed and step, so that a run can go on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.errors import UserError, did_you_mean
from cnnvis_cli.pictures.read import SUFFIXES, PictureFile, find_pictures, read, resize_short, to_square

_BOUND = 1 << 30  # bytes of pictures that are kept


def listed(what: Sequence[str], leave_out: Sequence[str] = ()) -> list[PictureFile]:
    """Pictures of folders, globs, files and samples, and of lists: a .txt with a path a line, from the list's own folder (the
    suffix may differ, so that the list of an original data set serves its smaller copy). None of folders called so."""
    found: list[PictureFile] = []
    for one in what:
        path = Path(one).expanduser()
        found += _of_list(path, leave_out) if path.suffix == ".txt" and path.is_file() else find_pictures(one)
    return [source for source in found if source.label not in leave_out]


def _of_list(path: Path, leave_out: Sequence[str]) -> list[PictureFile]:
    sources = []
    for line in filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines())):
        wanted = path.parent / line
        if wanted.parent.name in leave_out:
            continue
        candidates = [wanted, *(wanted.with_suffix(suffix) for suffix in sorted(SUFFIXES))]
        there = next((candidate for candidate in candidates if candidate.is_file()), None)
        if there is None:
            raise UserError(f"{path} names {line}, which is not there. Paths are taken from the list's own folder.")
        sources.append(PictureFile(there.stem, there))
    if not sources:
        raise UserError(f"the list {path} is empty.")
    return sources


class Corpus:
    """Pictures by number. `keep`: short side in pixels that larger ones are shrunk to before they are kept.

    A picture that cannot be read is skipped, counted in `skipped` (path to reason), and the next one takes its place.
    """

    def __init__(self, sources: Sequence[PictureFile], *, keep: int = 512, bound: int = _BOUND) -> None:
        if not sources:
            raise UserError("there are no pictures to learn from.")
        self.sources = list(sources)
        self.skipped: dict[str, str] = {}
        self._keep, self._left = keep, bound
        self._cache: dict[int, Tensor] = {}
        self._bad: set[int] = set()

    def __len__(self) -> int:
        return len(self.sources)

    def picture(self, number: int) -> tuple[int, Tensor]:
        """The picture (3, H, W), 8 bits, at this number or the next that can be read, and whose number it is."""
        for step in range(len(self)):
            place = (number + step) % len(self)
            if place in self._cache:
                return place, self._cache[place]
            if place not in self._bad and (found := self._decoded(place)) is not None:
                return place, found
        reason = next(iter(self.skipped.values()))
        raise UserError(f"none of the {len(self)} pictures can be read: {reason}")

    def _decoded(self, place: int) -> Tensor | None:
        source = self.sources[place]
        try:
            picture = read(source)
        except UserError as error:
            self._bad.add(place)
            self.skipped[str(source.path)] = str(error)
            return None
        if min(picture.shape[-2:]) > self._keep:
            picture = resize_short(picture, self._keep)
        values = (picture[0] * 255).round().byte()
        if values.numel() <= self._left:
            self._left -= values.numel()
            self._cache[place] = values
        return values

    def crops(
        self,
        numbers: Sequence[int],
        size: int,
        generator: torch.Generator,
        *,
        zoom: tuple[float, float] = (0.5, 1.0),
        aspect: float = 0.25,
        flip: bool = True,
    ) -> tuple[Tensor, list[int]]:
        """Random crops (B, 3, size, size) in [0, 1] and whose they are. A crop's side is `zoom` of the picture's short one,
        its shape up to exp(+-`aspect`) from a square, its place anywhere; half are mirrored."""
        crops, whose = [], []
        for number in numbers:
            draws = torch.rand(5, generator=generator).tolist()
            place, picture = self.picture(number)
            height, width = picture.shape[-2:]
            side = min(height, width) * (zoom[0] + (zoom[1] - zoom[0]) * draws[0])
            ratio = math.exp(aspect * (2 * draws[1] - 1) / 2)
            tall, wide = min(height, max(2, round(side * ratio))), min(width, max(2, round(side / ratio)))
            top, left = int(draws[2] * (height - tall + 1)), int(draws[3] * (width - wide + 1))
            crop = picture[None, :, top : top + tall, left : left + wide].float().div_(255)
            crop = F.interpolate(crop, (size, size), mode="bilinear", align_corners=False, antialias=True)
            crops.append(crop.flip(3) if flip and draws[4] < 0.5 else crop)
            whose.append(place)
        return torch.cat(crops), whose

    def squares(self, numbers: Sequence[int], side: int, resize_to: int | None = None) -> tuple[Tensor, list[int]]:
        """The middle squares (B, 3, side, side) in [0, 1] that a classifier is judged by, and whose they are."""
        found = [self.picture(number) for number in numbers]
        squares = [to_square(picture[None].float().div(255), side, resize_to) for _, picture in found]
        return torch.cat(squares), [place for place, _ in found]

    def spread(self, count: int) -> list[int]:
        """`count` numbers spread evenly over the corpus (all, where it has fewer)."""
        count = min(count, len(self))
        return [round((i + 0.5) * len(self) / count - 0.5) for i in range(count)]


def labelled(
    sources: Sequence[PictureFile], names: Mapping[str, str], classes: Sequence[str] = ()
) -> tuple[Tensor, tuple[str, ...]]:
    """Folders as labels: the pictures' class numbers (N,), and the classes.

    `names`: from folder to class, where they differ ('_' and ' ' are the same). `classes`: those there must be; the folders'
    own in the folders' alphabetical order if empty. Raises UserError for a folder that is none of the classes.
    """
    known = {name.lower().replace("_", " "): index for index, name in enumerate(classes)}
    wanted = {folder: names.get(folder, folder.replace("_", " ")) for folder in {source.label for source in sources}}
    if not classes:
        classes = tuple(dict.fromkeys(wanted[folder] for folder in sorted(wanted)))
        known = {name.lower().replace("_", " "): index for index, name in enumerate(classes)}
    for folder, name in sorted(wanted.items()):
        if name.lower().replace("_", " ") not in known:
            hint = did_you_mean(name, classes)
            raise UserError(
                f"the folder '{folder}' is no class of the network.{hint} Say which with names='{{{folder}: CLASS}}'."
            )
    numbers = [known[wanted[source.label].lower().replace("_", " ")] for source in sources]
    return torch.tensor(numbers, dtype=torch.long), tuple(classes)
