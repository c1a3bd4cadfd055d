"""What all commands' configs share. Fields carry their documentation: `--help` and the README are made from it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


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


class CommandConfig(BaseModel):
    """Base of every command's config: unknown keys are refused, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # Named sets of values that stand between the defaults and what the user gives; a command that has some has a `preset` key.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    name: FileName = Field("", description="file name of the result, without suffix; made from the settings if empty")
    seed: int = Field(0, ge=0, description="every random choice follows from it")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not cls.presets or not isinstance(values, dict):
            return values
        chosen = values.get("preset", cls.model_fields["preset"].default)
        return {**cls.presets.get(str(chosen), {}), **values}

    def slug(self) -> str:
        """A readable file name for the result when `name` is empty."""
        return "result"


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
    first = what[0].removeprefix("sample:").rstrip("/*") or "samples"
    return Path(first).name + ("+" if len(what) > 1 else "")
