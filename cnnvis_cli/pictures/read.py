"""Reading a picture to a tensor (1, 3, H, W), sRGB in [0, 1], and resampling it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from cnnvis_cli.errors import UserError
from cnnvis_cli.pictures.find import SUFFIXES, UNREADABLE, find_picture, find_pictures
from cnnvis_cli.pictures.samples import SAMPLES, PictureFile, printable, sample

__all__ = [
    "SAMPLES",
    "SUFFIXES",
    "PictureFile",
    "center_crop",
    "find_picture",
    "find_pictures",
    "open_rgb",
    "read",
    "resize",
    "resize_short",
    "sample",
    "to_square",
    "to_tensor",
]

# A strip that is longer than so many times its width is refused: brought to a network's size it would fill the memory.
NARROWEST = 16
# Formats whose first frame is the picture: a phone's second frame is for the depth, Photoshop's others are layers.
_FIRST_FRAME = {"MPO", "PSD", "HEIF"}
_HEIF_SUFFIXES, _HEIF_BRANDS = (".heic", ".heif", ".hif"), (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis")


def open_rgb(source: PictureFile) -> Image.Image:
    """The picture as 8-bit sRGB: turned by its EXIF tag, colours converted from its profile, 16 bits scaled to 8,
    transparency laid on white.

    Raises UserError for what cannot be read, and for animations, whose frame only the user can choose.
    """
    shown = printable(str(source.path))
    if source.path.suffix.lower() in UNREADABLE:
        raise UserError(f"{shown}: {source.path.suffix} is not a kind of picture that can be read. Save it as PNG or JPEG.")
    _prepare_heif(source, shown)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source.path) as file:
                if file.format not in _FIRST_FRAME and (frames := getattr(file, "n_frames", 1)) > 1:
                    raise UserError(f"{shown} has {frames} frames. Save the one you mean as a picture of its own.")
                sixteen = file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM"))
                picture = ImageOps.exif_transpose(file)
                profile = file.info.get("icc_profile")
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"{shown} is not a picture that can be read (or it is damaged).") from None
    except Exception as error:  # Pillow's decoders raise a great many kinds on damaged files
        raise UserError(f"cannot read the picture {shown}: {str(error).rstrip('.') or type(error).__name__}.") from None
    short, long = sorted(picture.size)
    if long > NARROWEST * short:
        size = f"{picture.width} x {picture.height}"
        raise UserError(f"{shown} has {size} px; pictures up to {NARROWEST} times as long as wide are taken. Pad or crop it.")
    if sixteen:
        values = np.asarray(picture, dtype=np.float64) / 65535
        picture = Image.fromarray((values * 255).round().clip(0, 255).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise UserError(f"{shown} holds numbers of 32 bits whose white is not known. Save it with 8 or 16 bits.")
    return _on_white(picture, profile)


def _prepare_heif(source: PictureFile, shown: str) -> None:
    """Let Pillow read HEIC, by the optional plugin; phones also give them the name of a JPEG."""
    try:
        with source.path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return  # told where the picture is opened
    if source.path.suffix.lower() not in _HEIF_SUFFIXES and not (head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS):
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise UserError(f"{shown} is a HEIC picture: pip install 'cnnvis[heif]' (pillow-heif), or save it as JPEG.") from None
    register_heif_opener()


def _on_white(picture: Image.Image, profile: bytes | None) -> Image.Image:
    if picture.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in picture.info:
        return _to_srgb(picture, profile)
    picture = picture.convert("RGBA")
    white = Image.new("RGB", picture.size, "white")
    white.paste(_to_srgb(picture.convert("RGB"), profile), mask=picture.getchannel("A"))
    return white


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """8-bit sRGB of a picture with this ICC profile; a profile that is damaged, or of other colours, is passed over."""
    if not profile:
        return picture.convert("RGB")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(own.profile.xcolor_space.strip())
        ready = picture.convert("RGB") if picture.mode == "P" else picture
        if mode != ready.mode or ImageCms.getProfileDescription(own).strip().startswith("sRGB"):
            return ready.convert("RGB")
        converted = ImageCms.profileToProfile(
            ready,
            own,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ValueError, ImageCms.PyCMSError):
        return picture.convert("RGB")
    return converted if converted is not None else picture.convert("RGB")


def to_tensor(picture: Image.Image) -> Tensor:
    """(1, 3, H, W) in [0, 1] of an 8-bit RGB picture."""
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)[None].float().div_(255)


def read(source: PictureFile) -> Tensor:
    """(1, 3, H, W) in [0, 1], at the file's own size."""
    return to_tensor(open_rgb(source))


def reload(path: Path) -> Tensor:
    """(1, 3, H, W) in [0, 1] of a PNG that was written here, of any shape."""
    with Image.open(path) as picture:
        return to_tensor(picture.convert("RGB"))


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
