"""The labelled samples: what the file of boxes says is of the pictures that are there."""

from __future__ import annotations

from collections import Counter

import pytest
from PIL import Image

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.errors import UserError
from cnnvis_cli.pictures.find import find_picture, find_pictures
from cnnvis_cli.pictures.samples import labelled_samples, sample_boxes


def test_there_are_eight_of_each_of_twelve_classes_with_a_box_inside_each() -> None:
    found = find_pictures("sample:caltech")
    assert Counter(source.label for source in found) == dict.fromkeys({source.label for source in found}, 8)
    assert len(found) == 96
    assert sample_boxes().keys() == {source.name for source in found}
    for source in found:
        with Image.open(source.path) as picture:
            width, height = picture.size
        assert min(width, height) == 96
        left, top, right, bottom = sample_boxes()[source.name]
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_the_bundled_network_knows_every_class(minivgg: Network) -> None:
    for label in {source.label for source in labelled_samples()}:
        assert minivgg.class_index(label) >= 0


def test_a_class_and_a_picture_can_be_named() -> None:
    starfish = find_pictures("sample:caltech/starfish")
    assert {source.label for source in starfish} == {"starfish"}
    assert find_picture(starfish[3].address) == starfish[3]
    with pytest.raises(UserError, match="starfish"):
        find_pictures("sample:caltech/starfsh")
    assert all(not source.label for source in find_pictures("sample:*"))
