"""Pictures to learn from: crops that follow from a generator alone, corrupt files, lists, labels, the bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnvis_cli.errors import UserError
from cnnvis_cli.pictures.corpus import Corpus, labelled, listed


def folder(root: Path, count: int = 6, side: int = 40) -> Path:
    for number in range(count):
        place = root / ("cat" if number % 2 else "water_lily")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((side, side + 8 * number, 3), 20 * number, np.uint8)).save(place / f"{number}.png")
    return root


def test_crops_follow_from_the_generator_alone_and_from_no_cache(tmp_path: Path) -> None:
    sources = listed([str(folder(tmp_path))])

    def crops(corpus: Corpus) -> torch.Tensor:
        return corpus.crops([0, 3, 5], 16, torch.Generator().manual_seed(2))[0]

    warm = Corpus(sources)
    crops(warm)
    assert torch.equal(crops(warm), crops(Corpus(sources)))
    assert torch.equal(crops(warm), crops(Corpus(sources, bound=0)))
    assert crops(warm).shape == (3, 3, 16, 16)


def test_corrupt_files_are_skipped_and_counted(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "cat" / "1.png").write_bytes(b"no picture")
    (tmp_path / "cat" / "3.png").write_bytes(b"")
    corpus = Corpus(listed([str(tmp_path)]))
    _, whose = corpus.crops(range(6), 16, torch.Generator().manual_seed(0))
    assert len(corpus.skipped) == 2
    assert {corpus.sources[place].name for place in whose} == {"0", "2", "4", "5"}


def test_a_folder_of_nothing_but_corrupt_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="none of the 1 pictures"):
        Corpus(listed([str(tmp_path)])).picture(0)


def test_large_pictures_are_kept_small(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((300, 500, 3), np.uint8)).save(tmp_path / "large.png")
    assert Corpus(listed([str(tmp_path)]), keep=60).picture(0)[1].shape == (3, 60, 100)


def test_a_list_names_pictures_from_its_own_folder_whatever_their_suffix(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "train.txt").write_text("cat/1.jpg\nwater_lily/0.jpg\n\n")
    assert [source.path.name for source in listed([str(tmp_path / "train.txt")])] == ["1.png", "0.png"]
    assert [source.name for source in listed([str(tmp_path / "train.txt")], ["cat"])] == ["0"]
    (tmp_path / "train.txt").write_text("cat/77.jpg\n")
    with pytest.raises(UserError, match=r"cat/77\.jpg"):
        listed([str(tmp_path / "train.txt")])


def test_folders_are_labels(tmp_path: Path) -> None:
    sources = listed([str(folder(tmp_path))])
    numbers, classes = labelled(sources, {"cat": "tabby"})
    assert classes == ("tabby", "water lily")
    assert labelled(sources, {"cat": "zebra"})[1] == ("zebra", "water lily"), "in the folders' order, whatever they are called"
    assert numbers.tolist() == [int(source.label != "cat") for source in sources]
    assert labelled(sources, {"cat": "tabby"}, ("Water lily", "dog", "tabby"))[0].tolist() == [
        2 if source.label == "cat" else 0 for source in sources
    ]
    with pytest.raises(UserError, match="'cat' is no class"):
        labelled(sources, {}, ("water lily", "dog"))
