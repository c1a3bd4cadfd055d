"""The trial run of a network that comes from outside: whatever can go wrong does so here, and is told in one line.

Two pictures at once, then the first of them alone: what is returned, whether it hangs on the picture by gradients, whether it
depends on the other pictures of a batch, and whether it is the same when asked again.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cnnvis_cli.engine.errors import Refused
from cnnvis_cli.engine.network.folding import fold
from cnnvis_cli.engine.network.outputs import Reading, candidates, follow, form_of_scores, measure
from cnnvis_cli.engine.network.sizes import Trials, example, typical_sizes

# Answers further apart than this share of their largest value are no rounding.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Trial:
    """`logits` (classes,): of the first picture of the trial. `notes`: what should be said once. `steady`: two passes agree."""

    reading: Reading
    logits: Tensor
    notes: tuple[str, ...] = ()
    steady: bool = True


def ready(module: nn.Module) -> nn.Module:
    """The module itself, out of what wraps it (DataParallel, torch.compile). Raises Refused for what cannot be looked into."""
    for inner in ("_orig_mod", "module"):
        if type(module).__name__ in ("OptimizedModule", "DataParallel", "DistributedDataParallel", "AveragedModel"):
            module = getattr(module, inner, module)
    if isinstance(module, torch.jit.ScriptModule):
        raise Refused("scripted", "it is TorchScript, whose layers cannot be looked into")
    lazy = [name for name, values in module.named_parameters() if is_lazy(values)]
    if lazy:
        raise Refused("lazy", f"its lazy weights {lazy[0]} do not exist before a first picture has passed it")
    for name, child in module.named_modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is None:
            raise Refused(
                "statistics",
                f"its {type(child).__name__} {name} keeps no statistics: a picture's answer would depend on the others",
            )
    for name, values in [*module.named_parameters(), *module.named_buffers()]:
        _check_numbers(name, values)
    return module


def _check_numbers(name: str, values: Tensor) -> None:
    if values.is_complex() or values.is_quantized:
        kind = "complex" if values.is_complex() else "quantized"
        raise Refused("numbers", f"its weights {name} are {kind}, which no gradient to a picture goes through here")
    if values.is_floating_point() and not bool(values.isfinite().all()):
        count = int((~values.isfinite()).sum())
        raise Refused("numbers", f"{count} of {values.numel()} values of its weights {name} are no finite numbers")


def try_out(module: nn.Module, channels: int, side: int, wanted: str = "", classes: int | None = None) -> Trial:
    """Run a module in eval mode on two pictures of `side` px, then on the first alone. Raises Refused."""
    pictures = example(channels, side, 2)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of somebody else's code, which is about to be run many more times
        both = _run(module, pictures, gradients=True)
        reading = measure(both, 2, wanted, classes)
        scores = follow(both, reading.path)
        if not scores.requires_grad:
            raise Refused(
                "gradients", "no gradient leads from what it returns to the picture (a forward under no_grad, or detached?)"
            )
        notes = _notes(both, reading, scores, wanted)
        logits = reading(both).detach()[0]
        alone = reading(_run(module, pictures[:1]))[0]
        steady = _alike(logits, alone)
        if not steady:
            again = reading(_run(module, pictures[:1]))[0]
            if _alike(alone, again):
                raise Refused("statistics", "its answer for a picture depends on the other pictures of the batch")
    return Trial(reading, logits, tuple(notes), steady)


def _notes(output: Any, reading: Reading, scores: Tensor, wanted: str) -> list[str]:
    notes = []
    others = [path for path, _ in candidates(output) if path != reading.path]
    if others and not wanted:
        names = ", ".join(".".join(map(str, path)) for path in others[:4])
        notes.append(f"of its outputs, {'.'.join(map(str, reading.path))} is read (others: {names})")
    if reading.form != "logits" or reading.per_place:
        notes.append(f"it returns {reading.describe()}")
    return [*notes, *filter(None, [form_of_scores(scores)])]


def _alike(one: Tensor, other: Tensor) -> bool:
    return bool(((one - other).abs() <= TOLERANCE * one.abs().amax().clamp_min(1e-6)).all())


def settle(module: nn.Module, trial: Trial, picture: Tensor, *, channels_last: bool) -> bool:
    """Fold BatchNorm and lay weights and maps channels last, in place, as far as the module's answers stay as they were.

    `picture`: the first one of the trial. Returns whether it lies channels last.
    """
    take_back = fold(module, picture) if trial.steady else (lambda: None)
    for last in (take_back, lambda: None):
        for form in [torch.channels_last, torch.contiguous_format] if channels_last else [torch.contiguous_format]:
            if _agrees(module.to(memory_format=form), trial, picture.contiguous(memory_format=form)):
                return form == torch.channels_last
        last()
    return False


def _agrees(module: nn.Module, trial: Trial, picture: Tensor) -> bool:
    """Whether a changed module still answers the first picture of the trial as it did."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            logits = trial.reading(module(picture))[0]
        except (KeyboardInterrupt, torch.OutOfMemoryError):
            raise
        except Exception:  # `.view` of maps that lie channels last, for one
            return False
    return not trial.steady or _alike(trial.logits, logits)


def _run(module: nn.Module, pictures: Tensor, *, gradients: bool = False) -> Any:
    """What the module returns; whatever it raises becomes Refused. `gradients`: with a graph, which keeps no tensors."""
    try:
        if not gradients:
            with torch.no_grad():
                return module(pictures)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda kept: kept):
            return module(pictures.requires_grad_().clone())
    except (KeyboardInterrupt, torch.OutOfMemoryError, MemoryError):
        raise
    except BaseException as error:  # also sys.exit: it is the network that ends, not we
        raise _explained(error, module, pictures) from error


def _explained(error: BaseException, module: nn.Module, pictures: Tensor) -> Refused:
    _, channels, side, _ = pictures.shape
    wanted = [name for name, parameter in _parameters(module).items() if parameter.default is parameter.empty]
    more = wanted[1:]
    if isinstance(error, TypeError) and more:
        return Refused("inputs", f"its forward wants {', '.join(more)} beside the picture")
    first = next((item for item in module.named_modules() if isinstance(item[1], nn.Conv2d)), None)
    if first is not None and isinstance(first[1], nn.Conv2d) and first[1].in_channels != channels:
        takes = first[1].in_channels
        return Refused("channels", f"its first convolution ({first[0]}) takes {takes} channels; the pictures have {channels}")
    if not isinstance(error, SystemExit):
        trials = Trials(module, channels, side)
        if (fitting := next((size for size in typical_sizes() if size != side and trials(size, size)), None)) is not None:
            return Refused("size", f"it cannot take pictures of {side} px, but it takes {fitting} px")
    return Refused("failed", f"it failed on pictures {tuple(pictures.shape)}: {said(error)}")


def _parameters(module: nn.Module) -> dict[str, inspect.Parameter]:
    try:
        found = inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return {}
    return {name: p for name, p in found.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def said(error: BaseException) -> str:
    """An exception of somebody else's code in one line: its name and words, and the line of theirs that it came from."""
    words = str(error).strip().splitlines()
    text = f"{type(error).__name__}{': ' + words[0][:200] if words else ''}".rstrip(".")
    packages = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]))
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*packages, "<frozen")) and "importlib" not in frame.filename
    ]
    if isinstance(error, SyntaxError):
        return f"{text} (line {error.lineno})" if "line" not in text else text
    return f"{text} ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else text
