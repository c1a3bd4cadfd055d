"""What all commands' configs share. Fields carry their documentation: `--help` and the README are made from it."""

from __future__ import annotations

import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
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

    name: FileName = Field("", description="file name of the result, without suffix; made from the settings if empty")
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="every random choice follows from it")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not cls.presets or not isinstance(values, dict):
            return values
        chosen = values.get(cls.preset_key, cls.model_fields[cls.preset_key].default)
        return {**cls.presets.get(str(chosen), {}), **values}

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

    def slug(self) -> str:
        """A readable file name for the result when `name` is empty."""
        return "result"


def _same(value: Any, written: Any) -> bool:
    """Whether a value is what a preset says; a preset writes lists where the config has tuples."""
    return bool(value == (tuple(written) if isinstance(written, list) else written))


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
