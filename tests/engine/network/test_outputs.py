"""What a network returns is found, in whatever form, and every objective and command scores that number."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.errors import Refused
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.layers import OUTPUT
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.optim.evaluate import score
from cnnvis_cli.engine.optim.objectives import class_logit, class_probability, class_share

Named = namedtuple("Named", ["features", "scores"])


@dataclass
class Answer:
    loss: Any
    logits: Tensor


class Returning(nn.Module):
    """Five class scores made of a small trunk, handed back in the form that `last` gives them."""

    def __init__(self, last: Callable[[Tensor, Tensor], Any], classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, classes, 1)
        self.last = last

    def forward(self, x: Tensor) -> Any:
        maps = self.trunk(x).relu()
        return self.last(self.head(maps).mean((2, 3)), maps)


def frozen(last: Callable[[Tensor, Tensor], Any], classes: int = 5, names: tuple[str, ...] = (), output: str = "") -> Network:
    return Network.frozen("mine", Returning(last, classes), Preprocessing(size=16), names, output=output)


FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tensor": lambda y, m: y,
    "tuple": lambda y, m: (y, m),
    "list": lambda y, m: [None, "text", y],
    "dict": lambda y, m: {"features": m, "logits": y},
    "ordered": lambda y, m: OrderedDict(out=y, aux=y * 0),
    "nested": lambda y, m: {"main": (y, m)},
    "dataclass": lambda y, m: Answer(None, y),
    "named": lambda y, m: Named(m.mean((1, 2, 3), keepdim=False)[:1], y),
}


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_found_in_every_form(form: str, images: Tensor) -> None:
    plain, network = frozen(FORMS["tensor"]), frozen(FORMS[form])
    assert torch.equal(network(images), plain(images))
    assert torch.equal(activations(network, images, [OUTPUT, "trunk"])[OUTPUT], plain(images))
    assert bool(network.notes) == (form in ("tuple", "dict", "ordered", "nested", "named"))


def test_one_of_several_outputs_is_chosen(images: Tensor) -> None:
    def two(y: Tensor, maps: Tensor) -> Any:
        return {"coarse": (y[:, :2], maps), "fine": Answer(None, y)}

    for output, count in (("", 2), ("coarse.0", 2), ("fine", 5), ("fine.logits", 5), ("coarse.1", 8)):
        assert frozen(two, output=output).class_count == count
    with pytest.raises(Refused, match="Did you mean 'coarse'"):
        frozen(two, output="corse")
    # As many names as one of them has numbers decide.
    assert frozen(lambda y, m: (m.mean((2, 3)), y), names=tuple("abcde")).reading.path == (1,)


@pytest.mark.parametrize("places", [False, True])
def test_probabilities_are_used_as_they_are(places: bool, images: Tensor) -> None:
    logits = frozen(lambda y, m: y)
    if places:
        network = frozen(lambda y, m: (y[:, :, None, None] + 0 * m[:, :1]).softmax(1))
    else:
        network = frozen(lambda y, m: y.softmax(1))
    assert network.reading.form == "probabilities"
    torch.testing.assert_close(network(images).softmax(1), logits(images).softmax(1))
    torch.testing.assert_close(score(network, class_share(network, 2), images), logits(images).softmax(1)[:, 2])
    torch.testing.assert_close(score(network, class_probability(network, 2), images), logits(images).log_softmax(1)[:, 2])


@pytest.mark.parametrize("flat", [False, True])
def test_one_number_is_two_answers(flat: bool, images: Tensor) -> None:
    raw = frozen(lambda y, m: y[:, 0] if flat else y[:, :1])
    sure = frozen(lambda y, m: torch.sigmoid(y[:, 0] if flat else y[:, :1]))
    z = raw.module(raw.normalize(images)).flatten()
    assert (raw.reading.form, sure.reading.form) == ("one logit", "one probability")
    for network in (raw, sure):
        assert network.class_count == 2
        torch.testing.assert_close(network(images).softmax(1)[:, 1], z.sigmoid())
        torch.testing.assert_close(score(network, class_logit(network, 1), images), z)
        torch.testing.assert_close(score(network, class_logit(network, 0), images), -z)
    assert frozen(lambda y, m: y[:, :1], names=("cat",)).classes == ("not cat", "cat")


@pytest.mark.parametrize("last", [False, True])
def test_scores_per_place_are_averaged(last: bool, images: Tensor) -> None:
    def maps(y: Tensor, m: Tensor) -> Tensor:
        scores = m[:, :5] + y[:, :, None, None]
        return scores.permute(0, 2, 3, 1) if last else scores

    network = frozen(maps)
    assert network.class_count == 5
    assert network.reading.per_place
    raw = network.module(network.normalize(images))
    torch.testing.assert_close(network(images), raw.mean((1, 2) if last else (2, 3)))


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (lambda y, m: None, "nothing"),
        (lambda y, m: "a cat", "a str"),
        (lambda y, m: y.argmax(1), "int64"),
        (lambda y, m: y.mean(0), "one row per picture"),
        (lambda y, m: y[:1], "one row per picture"),
        (lambda y, m: y / 0, "no finite numbers"),
        (lambda y, m: y.sum(), "one row per picture"),
        (lambda y, m: {"loss": 3.0}, "no tensor in it"),
    ],
)
def test_what_is_no_score_is_refused_in_one_line(last: Callable[[Tensor, Tensor], Any], words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        frozen(last)
    assert len(str(caught.value).splitlines()) == 1


def test_layers_are_for_looking_inside_only(images: Tensor) -> None:
    """The sum of two heads: what is scored is the sum, not the module that ran last."""

    class Ensemble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x.mean((2, 3))) + self.b(x.mean((2, 3)))

    network = Network.frozen("two", Ensemble(), Preprocessing(size=16))
    for index in range(4):
        torch.testing.assert_close(score(network, class_logit(network, index), images), network(images)[:, index])
    assert F.cosine_similarity(activations(network, images, ["b"])["b"], network(images)).min() < 0.999
