"""Files of weights as training scripts leave them: which of the things in a file are the weights, and how they are named.

No code in a file is ever run: what is no tensor, number or text comes back as an empty stand-in.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from cnnvis_cli.errors import UserError, shortened

State = dict[str, Tensor]

# A tensor of more bytes than this must have them in the file. Modules within modules, and beginnings of names that are tried.
_LARGEST, _DEEPEST, _MOST_PREFIXES = 2**30, 50, 100
# Under which keys the weights usually stand, the likeliest first.
_USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "module", "model_state", "weights", "params", "state")
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|loss|history|metric", re.IGNORECASE)
# What wrappers of training put into names: torch.compile, DataParallel. Old DenseNets have a dot too many.
_WRAPPERS = ("_orig_mod.", "module.")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
# Heads that speak in training only, and that networks are built without here.
_AUXILIARY = re.compile(r"^(aux1|aux2|AuxLogits|aux_classifier)\.")


def digest_of(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and values of a state dict."""
    sha = hashlib.sha256()
    for key in sorted(state):
        sha.update(key.encode())
        sha.update(state[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def read_weights(path: Path, module: nn.Module | None = None) -> State:
    """The state dict in a .safetensors or a file of torch.save; in float32. Of several, the one that fits `module` best.

    Raises UserError that says what the file is, or what stands in it.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for names that are too long
        raise UserError(f"no weights file '{shortened(path, 200)}'.")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    if kind := _known_wrong(head):
        raise UserError(f"{path} is {kind}, not a file of weights. Download it again.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" or head[8:9] == b"{" else _read_torch(path)
    states = dict(_states(content, ()))
    if not states:
        holds = (
            f" It holds: {', '.join(map(shortened, list(content)[:8]))}." if isinstance(content, Mapping) and content else ""
        )
        raise UserError(f"{path} holds no state_dict.{holds} Save one with torch.save(model.state_dict(), path).")
    wanted = module.state_dict() if module is not None else {}

    def fit(place: tuple[str, ...]) -> tuple[int, int]:
        named = next((_USUAL.index(key) for key in reversed(place) if key in _USUAL), len(_USUAL))
        renamed = renamed_for(states[place], wanted)
        return sum(wanted[key].shape == renamed[key].shape for key in wanted.keys() & renamed.keys()), -named

    state = states[max(states, key=fit)]
    return {key: _values(value, f"{path}: {shortened(key)}") for key, value in renamed_for(state, wanted).items()}


def _values(tensor: Tensor, what: str) -> Tensor:
    """Dense, in float32 if it holds fractions. Raises UserError for a tensor without values, or with values that are none."""
    if tensor.is_meta:
        raise UserError(f"{what} has a shape but no values: it was saved from the device 'meta'. Save the loaded model.")
    if tensor.layout == torch.strided and tensor.numel() * tensor.element_size() > max(_LARGEST, 64 * _stored(tensor)):
        raise UserError(f"{what} claims {tensor.numel():,} values and brings few of them: the file is damaged.")
    try:
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        if tensor.is_complex():
            raise UserError(f"{what} is complex; networks of real weights are read.")
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        broken = tensor.is_floating_point() and bool(tensor.isnan().any())
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise UserError(f"{what} cannot be read as numbers: {_first_line(error)}.") from None
    if broken:
        raise UserError(f"{what} holds NaN: the training went wrong, or the file is damaged.")
    return tensor


def _stored(tensor: Tensor) -> int:
    """Bytes that lie behind a tensor."""
    try:
        return tensor.untyped_storage().nbytes()
    except (RuntimeError, NotImplementedError):
        return 0


def _known_wrong(head: bytes) -> str:
    if head.lstrip()[:1] == b"<":
        return "a web page"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS (git lfs pull fetches the file)"
    return "empty" if not head else ""


def _read_safetensors(path: Path) -> State:
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # damaged headers end in errors of many kinds
        raise UserError(f"{path} is not a file of weights that can be read: {_first_line(error)}.") from None


def _read_torch(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch notes of odd files is no help to who has one
        return _unpickled(path)


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        pass  # it holds more than tensors: below, all else is read as empty stand-ins
    except Exception as error:
        raise UserError(f"{path} is not a file of weights that can be read: {_first_line(error)}.") from None
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_Inert)
    except Exception as error:
        raise UserError(f"{path} is not a file of weights that can be read: {_first_line(error)}.") from None


def _first_line(error: Exception) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    first = text.splitlines()[0][:200].rstrip(".:") if text else ""
    # A KeyError's whole message is the key: a byte that no pickle has says nothing to anybody.
    return first if " " in first else "it is none, or it is damaged"


class _StandIn(dict):
    """In place of an object whose code is not run: keeps what was saved of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.update(state if isinstance(state, dict) else {})

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def add(self, item: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _StandIn:
        return _StandIn()


# No range and no bytearray: a few bytes of a file could ask for all memory by them.
_CONTAINERS = {"set", "frozenset", "dict", "list", "tuple", "slice"}
_HARMLESS = {
    "collections": {"OrderedDict", "defaultdict", "Counter"},
    "builtins": _CONTAINERS | {"int", "float", "complex", "bool", "str"},
    "torch": {"Size", "device"},
    "torch._utils": {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"},
}


class _Inert:
    """What torch.load wants of a pickle module, with an unpickler that knows tensors and containers and nothing else."""

    # The one in Python: that in C keeps what it has read in an array as long as the file pleases, up to all memory.
    class Unpickler(pickle._Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            module = {"__builtin__": "builtins"}.get(module, module)
            if name in _HARMLESS.get(module, ()) or (module == "torch" and _is_plain(name)):
                return super().find_class(module, name)
            if (module, name) == ("torch.nn.parameter", "Parameter"):
                return nn.Parameter
            return _StandIn

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        return _Inert.Unpickler(file, **options).load()


def _is_plain(name: str) -> bool:
    """A dtype or the type of a storage."""
    return isinstance(getattr(torch, name, None), torch.dtype) or name.endswith("Storage")


def _states(
    content: Any, place: tuple[str, ...], depth: int = 4, seen: set[int] | None = None
) -> Iterator[tuple[tuple[str, ...], State]]:
    """Every dict of tensors, also those in a whole module that was saved, by the keys that lead to it; each dict once."""
    seen = set() if seen is None else seen
    if not isinstance(content, Mapping) or depth == 0 or id(content) in seen:
        return
    seen.add(id(content))
    if isinstance(content, _StandIn) and "_modules" in content:
        if state := dict(_of_module(content, "")):
            yield place, state
        return
    if content and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        yield place, dict(content)
        return
    for key, value in content.items():
        if isinstance(key, str) and not _NOT_WEIGHTS.search(key):
            yield from _states(value, (*place, key), depth - 1, seen)


def _of_module(module: Mapping[str, Any], prefix: str, above: tuple[int, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """The state dict of a module whose code was not run."""
    skipped = module.get("_non_persistent_buffers_set")
    skipped = skipped if isinstance(skipped, set | list | tuple) else ()
    for kind in ("_parameters", "_buffers"):
        for name, value in _items(module.get(kind)):
            if isinstance(value, Tensor) and name not in skipped:
                yield prefix + name, value
    for name, child in _items(module.get("_modules")):
        if isinstance(child, Mapping) and id(child) not in above and len(above) < _DEEPEST:
            yield from _of_module(child, f"{prefix}{name}.", (*above, id(child)))


def _items(content: Any) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in content.items() if isinstance(key, str)] if isinstance(content, Mapping) else []


def renamed_for(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> State:
    """The state under the names that a module wants, where what differs is what wrappers put before or into the names."""
    forms: list[State] = [dict(state), {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}]
    for wrapper in _WRAPPERS:
        forms += [{key.replace(wrapper, ""): value for key, value in form.items()} for form in list(forms)]
    tried = [_prefixed(form, wanted) for form in forms] if wanted else forms
    return (
        max(tried, key=lambda form: len(form.keys() & wanted.keys())) if wanted else min(forms, key=lambda f: sum(map(len, f)))
    )


def _prefixed(state: State, wanted: Mapping[str, Tensor]) -> State:
    """With a common beginning of the names (`model.`, `net.`) taken off, or put before them, if more names fit then."""
    first = next(iter(wanted))
    longer = [key[: -len(first)] for key in state if key.endswith(f".{first}")][:_MOST_PREFIXES]
    own = next(iter(state))
    shorter = [key[: -len(own)] for key in wanted if key.endswith(f".{own}")][:_MOST_PREFIXES]
    forms = [state]
    forms += [{key.removeprefix(p): value for key, value in state.items() if key.startswith(p)} for p in longer]
    forms += [{p + key: value for key, value in state.items()} for p in shorter]
    return max(forms, key=lambda form: len(form.keys() & wanted.keys()))


def unwrapped(state: State, wanted: Mapping[str, Tensor]) -> State:
    """With a head that was put into a Sequential (`fc.1.weight`, dropout before it) under the name that it had (`fc.weight`).

    Only where that Sequential has a single layer with weights, so that nothing else can stand between.
    """
    found = dict(state)
    for key in wanted.keys() - state.keys():
        head, _, leaf = key.rpartition(".")
        inner = [own for own in state if re.fullmatch(rf"{re.escape(head)}\.\d+\.{re.escape(leaf)}", own)]
        if head and len(inner) == 1 and state[inner[0]].shape[1:] == wanted[key].shape[1:]:
            found[key] = found.pop(inner[0])
    return found


def classes_in(state: Mapping[str, Tensor], module: nn.Module, classes: int) -> int | None:
    """How many classes a file's head has, where that is all it differs in from a module with `classes` of them; else None."""
    wanted = module.state_dict()
    other = [key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape]
    counts = {state[key].shape[0] if state[key].ndim else 0 for key in other}
    head = all(
        wanted[key].ndim and wanted[key].shape[0] == classes and wanted[key].shape[1:] == state[key].shape[1:] for key in other
    )
    return counts.pop() if head and len(counts) == 1 else None


def fit_weights(module: nn.Module, state: Mapping[str, Tensor], what: str, model: str) -> None:
    """Load a state dict, or say in one line how it differs from what the architecture wants. Auxiliary heads that the module
    was built without are passed over."""
    wanted = module.state_dict()
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - state.keys() - optional)
    extra = sorted(key for key in state.keys() - wanted.keys() if not _AUXILIARY.match(key))
    wrong = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    if missing or extra or wrong:
        notes = []
        for words, keys in (("missing", missing), ("unknown", extra)):
            if keys:
                notes.append(f"{len(keys)} {words} (first: {keys[0]})")
        if wrong:
            shapes = f"{tuple(state[wrong[0]].shape)}, not {tuple(wanted[wrong[0]].shape)}"
            notes.append(f"{len(wrong)} of another shape (first: {wrong[0]} {shapes})")
        raise UserError(f"{what} are not of {model}: tensors {', '.join(notes)}. Name the model they were saved from.")
    module.load_state_dict(dict(state), strict=False)
