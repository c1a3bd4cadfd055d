"""The loop of evolution against evaluators whose answers are known."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cnnvis_cli.engine.errors import RunError, UserError
from cnnvis_cli.engine.evolution import Archive, Cppn, Direct, Encoding, Evolution, Individual, Lineage, Shapes, Strategy

SIZE = 12


def brightness(images: np.ndarray) -> np.ndarray:
    """Four classes: as bright as its quarter of the image."""
    half = SIZE // 2
    quarters = [images[:, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    return np.stack([quarter.mean((1, 2, 3)) / 255 for quarter in quarters], 1)


def encodings() -> list[Encoding]:
    return [Direct(SIZE), Direct(SIZE, grayscale=True), Cppn(SIZE), Shapes(SIZE), Shapes(SIZE, kind="ellipses", grayscale=True)]


def evolution(encoding: Encoding | None = None, **settings: Any) -> Evolution:
    return Evolution(encoding or Cppn(SIZE), brightness, 4, **{"children": 30, **settings})


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("encoding", encodings(), ids=lambda e: type(e).__name__)
def test_every_encoding_improves_and_archive_holds_what_was_judged(encoding: Encoding) -> None:
    run = evolution(encoding)
    bests = [run.step().best for _ in range(15)]
    assert all((late >= early).all() for early, late in pairwise(bests))
    assert bests[-1].min() > bests[0].min()
    images = run.archive.images[:, 0]
    assert np.array_equal(brightness(images).diagonal(), run.archive.best)
    assert np.array_equal(encoding.render([row[0] for row in run.archive.genomes]), images)


@pytest.mark.parametrize("encoding", encodings(), ids=lambda e: type(e).__name__)
def test_resumed_equals_uninterrupted_bit_for_bit(encoding: Encoding) -> None:
    whole = evolution(encoding, seed=3)
    for _ in range(9):
        whole.step()
        if whole.generation == 4:
            state = deepcopy(whole.state())
    resumed = evolution(encoding, seed=99)
    resumed.restore(state)
    for _ in range(4):
        resumed.step()
    assert same(resumed.state(), whole.state())


def test_a_child_wins_every_class_it_raises_and_ties_change_nothing() -> None:
    archive = Archive(3, 4)
    images = np.arange(2, dtype=np.uint8)[:, None, None, None] + np.zeros((2, 4, 4, 3), np.uint8)
    genomes = [np.zeros(1), np.ones(1)]
    wins = archive.offer(np.array([[0.2, 0.2, 0.1], [0.1, 0.2, 0.3]]), images, genomes, np.array([7, 8]))
    assert wins == [(0, 0, 0), (1, 0, 0), (2, 0, 1)]
    assert archive.offer(np.array([[0.2, 0.2, 0.3]]), images[:1] + 9, genomes[:1], np.array([9])) == []
    assert archive.identities[:, 0].tolist() == [7, 7, 8]
    assert archive.images[:, 0, 0, 0, 0].tolist() == [0, 0, 1]
    assert archive.genomes[2][0] is genomes[1]


def test_evolution_strategy_keeps_the_best_of_each_island_in_order() -> None:
    run = evolution(Direct(SIZE), strategy=Strategy.EVOLUTION_STRATEGY, elites=3, children=40)
    for _ in range(8):
        parents = run.archive.identities.copy()
        run.step()
    scores = run.archive.scores
    assert (np.diff(scores, axis=1) <= 0).all()
    assert len(np.unique(scores[0])) > 1
    fresh = np.argwhere(~np.isin(run.archive.identities, parents))
    homes = {(k, run.lineage.known[run.archive.identities[k, place]].first_parent) for k, place in fresh}
    assert homes
    assert all(parent in parents[k] for k, parent in homes), "a child's parents are of its own class"


def test_chosen_targets_only() -> None:
    run = evolution(targets=[3, 1])
    run.step()
    assert run.targets.tolist() == [1, 3]
    assert np.array_equal(brightness(run.archive.images[:, 0])[[0, 1], [1, 3]], run.archive.best)


def test_goal_gives_the_children_to_the_classes_behind() -> None:
    run = evolution(goal=0.5)
    run.step()
    run.archive.scores[:] = [[0.9], [0.9], [0.1], [0.9]]
    filled = run.archive.filled()
    assert set(filled[run._parents()[:, 0], 0]) == {2}
    run.archive.scores[:] = 0.9
    assert run.done
    assert set(filled[run._parents()[:, 0], 0]) == {0, 1, 2, 3}


def test_lineage_leads_from_the_first_generation_to_the_elite() -> None:
    run = evolution(Direct(SIZE, grayscale=True))
    for _ in range(12):
        run.step()
    for k in range(4):
        way = run.lineage.ancestors(int(run.archive.identities[k, 0]))
        assert way[0].first_parent == -1
        assert way[0].generation == 0
        assert all(child.first_parent == parent.identity for parent, child in pairwise(way))
        assert np.array_equal(way[-1].genome, run.archive.genomes[k][0])
    living = run.archive.identities.reshape(-1).tolist()
    assert set(run.lineage.known) == {one.identity for name in living for one in run.lineage.ancestors(name)}


def test_lineage_drops_the_oldest_genomes_beyond_its_budget() -> None:
    lineage = Lineage(budget=250)
    for number in range(5):
        lineage.add(Individual(number, number - 1, -1, number, 0, 0.5, np.zeros(100, np.uint8)))
    lineage.prune([4])
    assert [one.genome is None for one in lineage.ancestors(4)] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: np.full((len(x), 4), np.nan), "NaN or infinity for 30 of 30"),
        (lambda x: np.full((len(x), 3), 0.1), r"shape \(30, 3\) where \(30, 4\)"),
        (lambda x: np.zeros((len(x) - 1, 4)), r"shape \(29, 4\)"),
        (lambda x: np.full((len(x), 4), 7.0), "no probabilities. If they are logits"),
        (lambda x: "cat", "answered a str"),
        (lambda x: None, "shape"),
        (lambda x: [[0.1, 0.2], [0.3]], "answered a list"),
    ],
)
def test_garbage_is_refused_and_nothing_changes(answer: Any, message: str) -> None:
    run, twin = evolution(seed=1), evolution(seed=1)
    run.step()
    twin.step()
    run.evaluate = answer
    with pytest.raises(RunError, match=message):
        run.step()
    run.evaluate = brightness
    run.step()
    twin.step()
    assert same(run.state(), twin.state())


@pytest.mark.parametrize("settings", [{"children": 0}, {"elites": 0}, {"elites": 2}, {"targets": []}, {"targets": [4]}])
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        evolution(**settings)


def test_a_state_of_something_else_is_refused() -> None:
    run = evolution()
    run.step()
    with pytest.raises(UserError, match="target classes"):
        evolution(targets=[1]).restore(run.state())
