"""What all commands' configs share. Fields carry their documentation: `--help` and the README are made from it."""

from __future__ import annotations

import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from cnnvis_cli.config.conditions import Condition


def _comma_separated(value: Any) -> Any:
    """`a,b` on the command line is the list [a, b], unless a file has that very name; a single value is a list of one."""
    if isinstance(value, str):
        if "," in value and os.path.lexists(value):
            return [value]
        return [part.strip() for part in value.split(",") if part.strip()]
    return value if isinstance(value, list | tuple) else [value]


def _as_text(value: Any) -> Any:
    """A number where a word is meant (`target: 3`, `name: 007`) is that word, as it was written."""
    if isinstance(value, bool):
        return str(value).lower()
    return getattr(value, "text", str(value)) if isinstance(value, int | float) else value


def _fits_file_names(name: str) -> str:
    """Result files are NAME-SUFFIX.EXTENSION; file systems take names of 255 bytes."""
    if (size := len(name.encode("utf-8", "surrogateescape"))) > MOST_NAME_BYTES:
        raise ValueError(f"is {size} bytes long as a file name; at most {MOST_NAME_BYTES} fit, since suffixes come behind it")
    return name


# What is left of a file name's 255 bytes for results' own suffixes.
MOST_NAME_BYTES = 200
# No number but a seed is larger: what would follow from more is no picture.
LARGEST = 1e9
LARGEST_SEED = 2**63 - 1

Text = Annotated[str, BeforeValidator(_as_text)]
FileName = Annotated[Text, AfterValidator(_fits_file_names)]
TextList = Annotated[tuple[Text, ...], BeforeValidator(_comma_separated)]
NumberList = Annotated[tuple[float, ...], BeforeValidator(_comma_separated)]


def spelled_out(values: Any, short: str, full: str, form: str, refused: tuple[str, ...]) -> Any:
    """`short=VALUE` as `full=form.format(VALUE)`. Raises ValueError where one of the `refused` keys is given beside it."""
    if not isinstance(values, dict) or short not in values:
        return values
    if any(key in values for key in refused):
        raise ValueError(f"{short}=NAME is short for {full}={form.format('NAME')}: give one of them")
    return {key: value for key, value in values.items() if key != short} | {full: form.format(values[short])}


def wants_number(annotation: Any) -> bool:
    """Whether a key's values are numbers, or lists or mappings of numbers."""
    if annotation in (int, float):
        return True
    if typing.get_origin(annotation) is Literal:
        return False
    return any(wants_number(part) for part in typing.get_args(annotation))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


class CommandConfig(BaseModel):
    """Base of every command's config: unknown keys are refused, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # Named sets of values that stand between the defaults and what the user gives; a command that has some has a `preset` key.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    preset_key: ClassVar[str] = "preset"
    # What keys need to have an effect: all of these conditions. (What is switched off, 0 or false, needs none.)
    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {}
    # Keys that `words` tells.
    told: ClassVar[tuple[str, ...]] = ()

    name: FileName = Field("", description="file name of the result, without suffix; made from the settings if empty")
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="every random choice follows from it")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not cls.presets or not isinstance(values, dict):
            return values
        chosen = values.get(cls.preset_key, cls.model_fields[cls.preset_key].default)
        if chosen == "auto":
            chosen = cls.preset_for(values)
            values = values | {cls.preset_key: chosen}
        return {**cls.presets.get(str(chosen), {}), **values}

    @classmethod
    def preset_for(cls, values: Mapping[str, Any]) -> str:
        """Which preset `auto` means for these values."""
        raise NotImplementedError

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if wants_number(cls.model_fields[str(info.field_name)].annotation):
            for leaf in _leaves(value):
                if isinstance(leaf, bool):
                    raise ValueError(f"wants a number, not {str(leaf).lower()}")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _no_number_beyond_sense(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name != "seed" and wants_number(cls.model_fields[str(info.field_name)].annotation):
            for leaf in _leaves(value):
                if isinstance(leaf, int | float) and abs(leaf) > LARGEST:
                    raise ValueError(f"is larger than anything sensible; at most {LARGEST:.0e}")
        return value

    @model_validator(mode="after")
    def _all_has_an_effect(self) -> CommandConfig:
        preset = self.presets.get(str(getattr(self, self.preset_key, "")), {})
        refused = {}
        for key, conditions in self.belongs.items():
            value, default = getattr(self, key), type(self).model_fields[key].default
            missing = [condition for condition in conditions if not condition.holds(self)]
            if missing and value and value != default and not (key in preset and _same(value, preset[key])):
                refused[key] = missing[0].refusal(key, self)
        if refused:
            raise PydanticCustomError("no_effect", "{first}", {"first": next(iter(refused.values())), "refused": refused})
        return self

    def words(self) -> list[str]:
        """What the result is of, network first: for its file name and for the line on its figures."""
        return ["result"]

    def changes(self) -> list[str]:
        """`KEY-VALUE` of what differs from the defaults, or the preset's, and is not told by the words."""
        preset = self.presets.get(str(getattr(self, self.preset_key, "")), {})
        found = []
        for key, field in type(self).model_fields.items():
            value, usual = getattr(self, key), preset.get(key, field.default)
            if key not in self.told and key not in _UNTOLD and not _same(value, usual):
                found.append(_change(key, value))
        return found

    def slug(self) -> str:
        """A readable file name for the result when `name` is empty: other settings, another name."""
        return "_".join([*self.words(), *self.changes()])


def _same(value: Any, written: Any) -> bool:
    """Whether a value is what a preset says; a preset writes lists where the config has tuples."""
    return bool(value == (tuple(written) if isinstance(written, list) else written))


# How a result is made and written, not what it shows: in no name.
_UNTOLD = frozenset(
    (
        "name",
        "titles",
        "batch",
        "columns",
        "check",
        "save_every",
        "memory_format",
        "index",
        "cache",
        "timeout",
        "retries",
        "raw",
    )
)


def _change(key: str, value: Any) -> str:
    """`steps-100`, `segment`, `no-score`, `style_layers-relu1_1+relu2_1`."""
    key = key.replace("_", "-")
    if isinstance(value, bool):
        return key if value else f"no-{key}"
    if isinstance(value, Mapping):
        return f"{key}-" + "+".join(f"{name}-{item}" for name, item in value.items())
    parts = value if isinstance(value, list | tuple) else [value]
    return f"{key}-" + "+".join(_number(part) if isinstance(part, float) else stem(str(part)) for part in parts)


def _number(value: float) -> str:
    """At most four digits; levels of an 8-bit picture as `4-255`."""
    short, levels = f"{value:.4g}", round(255 * value)
    return f"{levels}-255" if float(short) != value and abs(255 * value - levels) < 1e-3 else short


def stem(what: str) -> str:
    """The name of a picture or a file, for file names; other words as they are."""
    parts = [part for part in what.removeprefix("sample:").split("/") if part and not set(part) & set("*?[")]
    last = parts[-1] if parts else ""
    return PurePath(last).stem if PurePath(last).suffix.lower() in _ENDINGS else last


# Endings of files that are no part of what they are called.
_ENDINGS = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2"),
    *(
        ".mp4",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".npy",
        ".pth",
        ".pt",
        ".safetensors",
        ".onnx",
        ".txt",
        ".json",
        ".yaml",
        ".yml",
    ),
)


class NetworkConfig(CommandConfig):
    """A command that looks at one network."""

    model: Text = Field(
        "minivgg", description="minivgg, lenet, a torchvision name, timm:NAME, or package.module:factory (--trust-code)"
    )
    weights: Text = Field(
        "", description="a file of weights (.pth .pt .safetensors), 'random', or empty for the pretrained ones"
    )
    output: Text = Field("", description="which of several outputs of the network is read: a name or number; found if empty")
    classes: Text = Field("", description="a file of class names: one per line, JSON or YAML, a list or by index")
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: autocast, where the device is fast at it")
    memory_format: Literal["channels_last", "contiguous"] = Field(
        "channels_last", description="how activations lie in memory; the first was faster for nearly every family"
    )
    titles: bool = Field(True, description="a line under each figure that says what it shows")

    @classmethod
    def of(cls, text: str) -> NetworkConfig:
        """The network that MODEL or MODEL@WEIGHTS names."""
        model, _, weights = text.partition("@")
        return NetworkConfig.model_validate({"model": model, "weights": weights})


class CollectionConfig(NetworkConfig):
    """A command that compares a layer's features of many pictures, which are kept on disk."""

    images: TextList = Field(("sample:caltech",), description="where to look: folders (each a class), globs, files or samples")
    layer: Text = Field("", description="whose features; what the classifier reads if empty. Maps are averaged over places")
    index: Text = Field("", description="folder of the features on disk; OUT/index if empty")
    batch: int = Field(32, ge=1, description="pictures at once")


def collection_name(what: Sequence[str]) -> str:
    """A short name for where pictures come from, for file names."""
    if not what:
        return "none"
    return (stem(what[0]) or "samples") + ("+" if len(what) > 1 else "")
