"""Reading pictures: files, globs, folders and samples, to tensors (1, 3, H, W), sRGB in [0, 1]."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cnnvis_cli.errors import UserError, did_you_mean
from cnnvis_cli.files.bundled import assets_folder

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
# Pictures that the wheels of scikit-image and scikit-learn carry: (package, file).
SAMPLES = {
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
# Paintings in the public domain that travel with this package (assets/paintings); not among `sample:*`, which are photographs.
PAINTINGS = ("composition_vii", "great_wave", "shipwreck", "starry_night")


@dataclass(frozen=True)
class Source:
    """One picture that was asked for: `name` for file names and captions, `path` where its bytes are."""

    name: str
    path: Path
    is_sample: bool = False

    @property
    def label(self) -> str:
        """The folder it lies in: the class of the picture where folders are labels. Samples have none."""
        return "" if self.is_sample else self.path.parent.name

    def digest(self) -> str:
        """SHA-256 of the file. Raises UserError where it cannot be read."""
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"cannot read the picture {self.path}: {error.strerror}.") from None


def sample(name: str) -> Source:
    """A sample picture by name. Raises UserError with near names."""
    if name in PAINTINGS:
        return Source(name, assets_folder() / "paintings" / f"{name}.webp", is_sample=True)
    if name not in SAMPLES:
        known = [*SAMPLES, *PAINTINGS]
        raise UserError(f"no sample '{name}'.{did_you_mean(name, known)} Samples: {', '.join(known)}.")
    from importlib.resources import files

    package, file = SAMPLES[name]
    return Source(name, Path(str(files(package) / file)), is_sample=True)


def find_pictures(what: str | Iterable[str]) -> list[Source]:
    """Files, globs, folders (searched in depth) and `sample:NAME` (`sample:*`: all), in a fixed order.

    Raises UserError where there is none.
    """
    if not isinstance(what, str):
        return [source for one in what for source in find_pictures(one)]
    if what == "sample:*":
        return [sample(name) for name in SAMPLES]
    if what.startswith("sample:"):
        return [sample(what.removeprefix("sample:"))]
    path = Path(what).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise UserError(f"the folder {what} holds no pictures ({' '.join(sorted(SUFFIXES))}).")
        return [Source(p.stem, p) for p in found]
    if path.is_file():
        return [Source(path.stem, path)]
    if any(mark in what for mark in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else str(path)
        found = sorted(p for p in anchor.glob(pattern) if p.suffix.lower() in SUFFIXES and p.is_file())
        if found:
            return [Source(p.stem, p) for p in found]
        raise UserError(f"no picture matches '{what}'.")
    if what in SAMPLES or what in PAINTINGS:
        raise UserError(f"no picture '{what}'. Did you mean 'sample:{what}'?")
    raise UserError(f"no picture '{what}': not a file, folder or glob, nor sample:NAME ({', '.join(list(SAMPLES)[:4])} ...).")


def find_picture(what: str) -> Source:
    """Exactly one picture. Raises UserError where `what` names several."""
    found = find_pictures(what)
    if len(found) > 1:
        raise UserError(f"'{what}' names {len(found)} pictures; one is wanted here.")
    return found[0]


def open_rgb(source: Source) -> Image.Image:
    """The picture as 8-bit RGB: turned by its EXIF tag, 16 bits scaled to 8, transparency laid on white.

    Raises UserError for what cannot be read, and for animations, whose frame only the user can choose.
    """
    try:
        with Image.open(source.path) as file:
            if (frames := getattr(file, "n_frames", 1)) > 1:
                raise UserError(f"{source.path} has {frames} frames. Save the one you mean as a picture of its own.")
            sixteen = file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM"))
            picture = ImageOps.exif_transpose(file)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"{source.path} is not a picture that can be read (or it is damaged).") from None
    except Exception as error:  # Pillow's decoders raise a great many kinds on damaged files
        raise UserError(f"cannot read the picture {source.path}: {str(error).rstrip('.') or type(error).__name__}.") from None
    if sixteen:
        values = np.asarray(picture, dtype=np.float64) / 65535
        return Image.fromarray((values * 255).round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise UserError(f"{source.path} holds numbers of 32 bits whose white is not known. Save it with 8 or 16 bits.")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def to_tensor(picture: Image.Image) -> Tensor:
    """(1, 3, H, W) in [0, 1] of an 8-bit RGB picture."""
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)[None].float().div_(255)


def read(source: Source) -> Tensor:
    """(1, 3, H, W) in [0, 1], at the file's own size."""
    return to_tensor(open_rgb(source))


def resize(pictures: Tensor, height: int, width: int) -> Tensor:
    """Antialiased resampling to (height, width); pictures (B, 3, H, W) in [0, 1] stay within [0, 1]."""
    if pictures.shape[-2:] == (height, width):
        return pictures
    return F.interpolate(pictures, (height, width), mode="bicubic", antialias=True, align_corners=False).clamp_(0, 1)


def resize_short(pictures: Tensor, side: int) -> Tensor:
    """The shorter side becomes `side` pixels, the shape stays."""
    height, width = pictures.shape[-2:]
    factor = side / min(height, width)
    return resize(pictures, max(side, round(height * factor)), max(side, round(width * factor)))


def center_crop(pictures: Tensor, side: int) -> Tensor:
    height, width = pictures.shape[-2:]
    top, left = (height - side) // 2, (width - side) // 2
    return pictures[..., top : top + side, left : left + side]


def to_square(pictures: Tensor, side: int, resize_to: int | None = None) -> Tensor:
    """What classifiers are evaluated on: short side to `resize_to` (default `side`), then the centre square of `side`."""
    return center_crop(resize_short(pictures, max(side, resize_to or side)), side)
