"""One table of what functions do: all spellings of a function are one entry, and rectifiers are told by what they do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cnnvis_cli.engine.network.operators import OPERATORS, operator, plain_name, rectifies


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("relu_", "relu"), ("_softmax", "softmax"), ("convolution", "conv2d"),
     ("_native_batch_norm_legit_no_training", "batch_norm"),
     ("__getitem__", "__getitem__"), ("max_pool2d_with_indices", "max_pool2d"), ("_unsafe_view", "view")],
)  # fmt: skip
def test_every_spelling_is_one_function(spelling: str, name: str) -> None:
    assert plain_name(spelling) == name
    assert operator(spelling) == OPERATORS[name]


def test_what_is_not_known_is_not_guessed() -> None:
    assert operator("cumsum") is None


@pytest.mark.parametrize("name", [name for name, known in OPERATORS.items() if known.rectifier in ("always", "bounded")])
def test_what_counts_as_a_rectifier_is_zero_below_zero(name: str) -> None:
    function = getattr(F, name, None) or getattr(torch, name)
    values = torch.linspace(-3, 3, 61)
    calls = {
        "hardtanh": [(0.0, 6.0), (-1.0, 1.0)], "clamp": [(0.0, 1.0), (-0.5, 1.0)], "clip": [(0.0,), (-2.0,)],
        "threshold": [(0.0, 0.0), (-1.0, 0.0)], "clamp_min": [(0.0,), (-1.0,)], "clamp_max": [(1.0,)],
    }.get(name, [()])  # fmt: skip
    for arguments in calls:
        result = function(values, *arguments)
        shut = bool((result[values < 0] == 0).all()) and bool((result[(values > 0) & (values < 1)] > 0).all())
        assert rectifies(name, (values, *arguments), {}) == shut, (name, arguments)
    assert rectifies("clamp", (values,), {"min": 0})
    assert not rectifies("clamp", (values,), {"min": torch.tensor(0.0)})
