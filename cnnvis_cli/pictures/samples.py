"""Pictures that are always there: photographs from the wheels of scikit-image and scikit-learn, and a labelled set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cnnvis_cli.errors import UserError, did_you_mean
from cnnvis_cli.files.bundled import assets_folder

# (package, file) of each.
SAMPLES: Mapping[str, tuple[str, str]] = {
    "astronaut": ("skimage.data", "astronaut.png"),
    "brick": ("skimage.data", "brick.png"),
    "chelsea": ("skimage.data", "chelsea.png"),
    "china": ("sklearn.datasets.images", "china.jpg"),
    "coffee": ("skimage.data", "coffee.png"),
    "flower": ("sklearn.datasets.images", "flower.jpg"),
    "grass": ("skimage.data", "grass.png"),
    "gravel": ("skimage.data", "gravel.png"),
    "hubble": ("skimage.data", "hubble_deep_field.jpg"),
    "ihc": ("skimage.data", "ihc.png"),
    "motorcycle": ("skimage.data", "motorcycle_left.png"),
    "retina": ("skimage.data", "retina.jpg"),
    "rocket": ("skimage.data", "rocket.jpg"),
}
# The labelled set, 96 pictures of 12 classes; see assets/samples/caltech/ATTRIBUTION.md.
LABELLED = "caltech"

# Paintings in the public domain (assets/paintings); not among `sample:*`, which are photographs.
PAINTINGS = ("composition_vii", "great_wave", "shipwreck", "starry_night")

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PictureFile:
    """One picture that was asked for: `name` for file names and captions, `path` where its bytes are.

    `is_sample`: it travels with the package or one of its wheels. `folder_is_label`: the folder it lies in is its class.
    """

    name: str
    path: Path
    is_sample: bool = False
    folder_is_label: bool = True

    @property
    def label(self) -> str:
        """The class of the picture where folders are labels; '' for pictures that have none."""
        return printable(self.path.parent.name) if self.folder_is_label else ""

    @property
    def address(self) -> str:
        """How a user would name it."""
        if not self.is_sample:
            return str(self.path)
        return f"sample:{LABELLED}/{self.name}" if self.folder_is_label else f"sample:{self.name}"

    def digest(self) -> str:
        """SHA-256 of the file. Raises UserError where it cannot be read."""
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"cannot read the picture {printable(str(self.path))}: {error.strerror}.") from None


def printable(text: str) -> str:
    """A name as it can be shown: bytes of a file's name that are no UTF-8 become '\N{REPLACEMENT CHARACTER}'."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def sample(name: str) -> PictureFile:
    """A photograph or painting by name. Raises UserError with near names."""
    if name in PAINTINGS:
        return PictureFile(name, assets_folder() / "paintings" / f"{name}.webp", is_sample=True, folder_is_label=False)
    if name not in SAMPLES:
        hint = did_you_mean(name, [*SAMPLES, *PAINTINGS, LABELLED])
        known = f"Samples: {', '.join(SAMPLES)}; paintings: {', '.join(PAINTINGS)}; labelled: {LABELLED}."
        raise UserError(f"no sample '{name}'.{hint} {known}")
    package, file = SAMPLES[name]
    return PictureFile(name, _inside(package) / file, is_sample=True, folder_is_label=False)


def _inside(package: str) -> Path:
    """The folder of a package, which is not imported for it."""
    root, *rest = package.split(".")
    spec = find_spec(root)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the samples of {root} are not installed. Reinstall cnnvis.")
    return Path(spec.submodule_search_locations[0], *rest)


def find_samples(what: str) -> list[PictureFile]:
    """`*` (all photographs), a photograph's name, `caltech` (all), `caltech/CLASS`, or `caltech/CLASS-NUMBER`."""
    if what == "*":
        return [sample(name) for name in SAMPLES]
    head, _, rest = what.rstrip("/").partition("/")
    if head != LABELLED:
        return [sample(what)]
    found = labelled_samples()
    rest = rest.removesuffix("/*").removesuffix("*")
    chosen = [source for source in found if rest in ("", source.label, source.name)]
    if not chosen:
        known = [*dict.fromkeys(source.label for source in found), *(source.name for source in found)]
        classes = ", ".join(dict.fromkeys(source.label for source in found))
        raise UserError(f"no class or picture '{rest}' in sample:{LABELLED}.{did_you_mean(rest, known)} Classes: {classes}.")
    return chosen


@cache
def labelled_samples() -> tuple[PictureFile, ...]:
    """The 96 labelled pictures, by class; short side 96 px."""
    root = assets_folder() / "samples" / LABELLED
    return tuple(
        PictureFile(f"{path.parent.name}-{path.stem.removeprefix('image_')}", path, is_sample=True)
        for path in sorted(root.glob("*/*.webp"))
    )


@cache
def sample_boxes() -> Mapping[str, Box]:
    """(left, top, right, bottom) in pixels of the object in each labelled picture, by its name; drawn by eye."""
    lines = (assets_folder() / "samples" / LABELLED / "boxes.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines if line and not line.startswith("#")][1:]
    return {
        f"{label}-{Path(file).stem.removeprefix('image_')}": (int(left), int(top), int(right), int(bottom))
        for label, file, left, top, right, bottom in rows
    }
