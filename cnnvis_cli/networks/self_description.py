"""What a network says about itself, in the forms that people have: how its pictures are prepared, what its classes are called.

Plain mappings as torchvision and timm write them, their transforms, numbers for all channels, values of 0 to 255; lists of
names, mappings by index or by name, files.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cnnvis_cli.config.load import parse_yaml
from cnnvis_cli.engine.network.network import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from cnnvis_cli.errors import UserError, did_you_mean

_SIZE_KEYS = ("size", "input_size", "img_size", "image_size", "crop_size")
_RESIZE_KEYS = ("resize", "resize_size", "short_side")
_OTHER_KEYS = ("mean", "std", "crop_pct")
_ATTRIBUTES = ("mean", "std", "size", "resize", "crop_size", "resize_size", "input_size", "crop_pct")


def preprocessing_of(said: Any, who: str, channels: int = 3) -> tuple[Preprocessing, list[str]]:
    """Of a mapping, an object with such attributes, or a list of transforms; and what was made of it that should be said.

    `channels`: how many a single number stands for. Raises UserError that names the value that makes no sense.
    """
    values = _as_mapping(said)
    notes: list[str] = []
    known = (*_SIZE_KEYS, *_RESIZE_KEYS, *_OTHER_KEYS)
    for key in values:
        if key not in known and (hint := did_you_mean(str(key), known)):
            raise UserError(f"{who}: unknown key '{key}'.{hint}")
    mean, std = _numbers(values, "mean", IMAGENET_MEAN, who), _numbers(values, "std", IMAGENET_STD, who)
    alone = isinstance(values.get("mean", values.get("std")), int | float)  # one number stands for all channels
    channels = max(len(mean), len(std), channels if alone else 1)
    mean, std = (numbers * channels if len(numbers) == 1 else numbers for numbers in (mean, std))
    if len(mean) != len(std):
        raise UserError(f"{who}: {len(mean)} means and {len(std)} standard deviations; one of each per channel is wanted.")
    if len(mean) not in (1, 3):
        raise UserError(f"{who}: {len(mean)} channels are asked for; pictures have 3 (colour) or 1 (grey).")
    if max(mean) > 1.5 or max(std) > 1.5:
        if max(mean) > 255 or max(mean) <= 1.5 or max(std) > 255:
            raise UserError(f"{who}: mean {mean} and std {std} are of no range of pixels; they are meant for values in [0, 1].")
        notes.append("its mean and std are of values from 0 to 255 and were divided by 255")
        mean, std = tuple(m / 255 for m in mean), tuple(s / 255 for s in std)
    if min(std) <= 0:
        raise UserError(f"{who}: std {std} must be above 0.")
    size = _side(next((values[key] for key in _SIZE_KEYS if key in values), 224), who)
    share = values.get("crop_pct")
    default = math.floor(size / float(share)) if isinstance(share, int | float) and 0 < share <= 1 else size
    resize = _side(next((values[key] for key in _RESIZE_KEYS if key in values), default), who)
    return Preprocessing(tuple(mean), tuple(std), size, max(size, resize)), notes


def _as_mapping(said: Any) -> dict[str, Any]:
    if said is None:
        return {}
    if isinstance(said, Mapping):
        return dict(said)
    if callable(said) and isinstance(getattr(said, "func", None), type):  # a partial of torchvision's presets
        said = said()
    steps = getattr(said, "transforms", said)
    if isinstance(steps, Iterable) and not isinstance(steps, str):
        found: dict[str, Any] = {}
        for step in steps:
            kind, own = type(step).__name__, vars(step)
            if kind == "Normalize":
                found |= {"mean": own["mean"], "std": own["std"]}
            elif kind == "CenterCrop":
                found["size"] = own["size"]
            elif kind == "Resize":
                found["resize"] = own["size"]
        if "resize" in found and "size" not in found:
            found["size"] = found["resize"]
        return found
    return {key: value for key in _ATTRIBUTES if (value := getattr(said, key, None)) is not None}


def _numbers(values: Mapping[str, Any], key: str, default: tuple[float, ...], who: str) -> tuple[float, ...]:
    given = values.get(key, default)
    given = given.tolist() if hasattr(given, "tolist") else given
    try:
        numbers = tuple(
            float(one) for one in (given if isinstance(given, Iterable) and not isinstance(given, str) else (given,))
        )
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise UserError(f"{who}: {key} must be a number or one per channel, not {given!r}.")
    return numbers


def _side(given: Any, who: str) -> int:
    """Of a number, a pair, or (channels, height, width)."""
    given = given.tolist() if hasattr(given, "tolist") else given
    sides = list(given)[-2:] if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if not sides or not all(isinstance(side, int | float) and side >= 1 and side == int(side) for side in sides):
        raise UserError(f"{who}: size must be a number of pixels, not {given!r}.")
    if len(set(sides)) > 1:
        raise UserError(f"{who}: size {given} is no square; networks of one oblong size are not supported.")
    return int(sides[0])


def names_of(said: Any, who: str) -> tuple[tuple[str, ...], list[str]]:
    """Class names in order, of a list, a mapping by index or to index, text with commas, or a file; and what should be said.

    Raises UserError where they are none of these.
    """
    said = said.tolist() if hasattr(said, "tolist") else said
    if said is None:
        return (), []
    if isinstance(said, str | Path):
        if Path(said).expanduser().is_file():
            return read_classes(str(said)), []
        parts = tuple(part.strip() for part in str(said).split(","))
        if len(parts) < 2 or not all(parts):
            raise UserError(f"{who} is the text {str(said)!r}; a list of names is wanted.")
        return parts, [f"its class names were one text, taken apart at commas: {parts[0]}, {parts[1]}, ..."]
    if isinstance(said, Mapping):
        return _by_index(said, who), []
    if not isinstance(said, Iterable):
        raise UserError(f"{who} is a {type(said).__name__}; a list of names is wanted.")
    names = [_name(one) for one in said]
    if not all(names):
        raise UserError(f"{who}: name {names.index('')} is empty.")
    return tuple(names), []


def _name(one: Any) -> str:
    """Of a name, or of (synset, name) as in imagenet_class_index.json."""
    return str(one[-1] if isinstance(one, list | tuple) and one else one).strip()


def _by_index(said: Mapping[Any, Any], who: str) -> tuple[str, ...]:
    pairs = {key: _name(value) for key, value in said.items()}
    if not all(str(key).isdigit() for key in pairs) and all(str(value).isdigit() for value in pairs.values()):
        pairs = {value: str(key) for key, value in pairs.items()}  # ImageFolder's class_to_idx
    try:
        numbered = {int(key): name for key, name in pairs.items()}
    except (TypeError, ValueError):
        raise UserError(f"{who} is a mapping of neither numbers to names nor names to numbers.") from None
    if sorted(numbered) != list(range(len(numbered))):
        lacks = next(number for number in range(len(numbered) + 1) if number not in numbered)
        raise UserError(
            f"{who}: the numbers of its {len(numbered)} classes are not 0 to {len(numbered) - 1}: {lacks} is missing."
        )
    return tuple(numbered[number] for number in range(len(numbered)))


def read_classes(file: str) -> tuple[str, ...]:
    """Names from a file: one per line, `0 name` or `0,name` per line, JSON, YAML; or a folder whose subfolders are classes."""
    path = Path(file).expanduser()
    if path.is_dir():
        names = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
        if not names:
            raise UserError(f"classes={file}: the folder has no subfolders to name classes.")
        return names
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"classes={file}: {getattr(error, 'strerror', None) or 'not a text file'}.") from None
    said: Any = None
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{"):
        try:
            said = json.loads(text)
        except json.JSONDecodeError:
            said = None
    if said is None and (path.suffix.lower() in (".yaml", ".yml") or text.lstrip()[:1] in ("[", "{")):
        said = parse_yaml(text, f"classes={file}")
    if isinstance(said, Mapping) and len(said) == 1 and isinstance(only := next(iter(said.values())), list | dict):
        said = only  # `names: [...]`
    return names_of(said, f"classes={file}")[0] if said is not None else _lines(text, file)


def _lines(text: str, file: str) -> tuple[str, ...]:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise UserError(f"classes={file} has no names.")
    numbered = [re.fullmatch(r"(\d+)\s*[,:;\t ]\s*(.+)", line) for line in lines]
    if all(numbered) and sorted(int(m[1]) for m in numbered if m) == list(range(len(lines))):
        named = {int(m[1]): m[2] for m in numbered if m}
        lines = [named[number] for number in sorted(named)]
    return tuple(line.strip().strip("\"'") for line in lines)
