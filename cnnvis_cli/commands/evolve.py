"""`cnnvis evolve`: images that a network is certain of, found by selection and variation alone."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.config.evolve import EvolveConfig
from cnnvis_cli.engine.evolution import (
    BlackBox,
    Cppn,
    Direct,
    Encoding,
    Evolution,
    NetworkBox,
    QueriesSpent,
    Shapes,
    Strategy,
    probabilities_of,
)
from cnnvis_cli.engine.network.classes import find_class
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import to_bytes
from cnnvis_cli.errors import Interrupted, RunError, UserError
from cnnvis_cli.jobs.fresh import named_files
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.networks import black_boxes
from cnnvis_cli.pictures import sheet as sheets
from cnnvis_cli.pictures.plots import class_history
from cnnvis_cli.pictures.sheet import Sheet
from cnnvis_cli.pictures.write import to_image, write_png

_MAX_PIXELS = 400_000_000  # of a sheet


@dataclass
class Classifier:
    """Who says what the images are: the evaluator, the images it wants, the names of its classes."""

    evaluate: BlackBox
    size: int
    grayscale: bool
    classes: tuple[str, ...]
    name: str
    budget: black_boxes.QueryLimit | None = None


def run(config: EvolveConfig, job: Job) -> None:
    classifier = _classifier(config, job)
    targets = [find_class(classifier.classes, text, classifier.name) for text in config.targets]
    evolution = Evolution(
        _encoding(config, job, classifier),
        classifier.evaluate,
        len(classifier.classes),
        targets or None,
        strategy=Strategy(config.strategy),
        children=config.children,
        elites=config.elites,
        goal=math.inf if config.goal is None else config.goal,
        seed=config.seed,
    )
    lineage = config.frames not in ("", "surest") and find_class(classifier.classes, config.frames, classifier.name)
    if lineage is not False and lineage not in evolution.targets:
        raise UserError(f"frames={config.frames} is not among the targets.")
    names = [classifier.classes[k] for k in evolution.targets]
    stopped = _evolve(config, job, evolution, names)
    _save_elites(config, job, evolution, classifier, names)
    _save_history(job, evolution, names)
    _save_lineage(job, evolution, names)
    if config.frames:
        k = int(evolution.archive.best.argmax()) if lineage is False else int(np.flatnonzero(evolution.targets == lineage)[0])
        _save_lineage_frames(job, evolution, k)
    for other in config.also:
        _transfer(job, evolution, names, other)
    job.record.stopped = [stopped]
    job.record.shows(classes=names)
    job.scores["generations"] = evolution.generation
    if classifier.budget is not None:
        job.scores["queries"] = classifier.budget.asked


def _classifier(config: EvolveConfig, job: Job) -> Classifier:
    if not config.evaluator:
        network = job.inputs.network(config)
        evaluate = NetworkBox(network, config.batch)
        size = config.size or network.size
        count = probabilities_of(evaluate, np.full((1, size, size, 3), 128, np.uint8)).shape[1]
        grey = network.preprocessing.grayscale if config.grayscale is None else config.grayscale
        return Classifier(evaluate, size, grey, tuple(map(network.class_name, range(count))), network.name)
    box = black_boxes.outside(
        config.evaluator,
        trust_code=job.inputs.trust_code,
        timeout=config.timeout,
        retries=config.retries,
        mean=config.mean,
        std=config.std,
    )
    own = box.size if isinstance(box, black_boxes.Onnx) else None
    side = config.size or own
    if side is None or own not in (None, side):
        raise UserError(f"{config.evaluator} takes pictures of {own or 'any'} px; give that as size=...")
    budget = black_boxes.QueryLimit(black_boxes.Softmax(box) if config.logits else box, config.queries, config.batch or 64)
    settings = [config.evaluator, config.logits, config.mean, config.std, named_files({"evaluator": config.evaluator})]
    whose = json.dumps(settings)
    if job.resume.get("evaluator", whose) != whose:
        job.warn(f"{config.evaluator} is another one than before the interruption; what it answered until then stays.")
    job.resume.keep("evaluator", whose)
    asked = black_boxes.Cache(budget, Path(config.cache).expanduser() if config.cache else None, whose)
    count = probabilities_of(asked, np.full((1, side, side, 3), 128, np.uint8)).shape[1]
    grey = isinstance(box, black_boxes.Onnx) and box.channels == 1 if config.grayscale is None else config.grayscale
    return Classifier(asked, side, grey, _labels(config, box, count), config.evaluator, budget)


def _labels(config: EvolveConfig, box: Any, count: int) -> tuple[str, ...]:
    names = getattr(box, "classes", ())
    if config.labels:
        try:
            names = tuple(Path(config.labels).expanduser().read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the labels {config.labels}: {error}.") from None
    if names and len(names) != count:
        raise UserError(f"{len(names)} class names for the {count} classes of {config.evaluator}.")
    return tuple(names) or tuple(f"class {k}" for k in range(count))


def _encoding(config: EvolveConfig, job: Job, classifier: Classifier) -> Encoding:
    strength: dict[str, Any] = {} if config.eta_m is None else {"eta_m": config.eta_m}
    if config.encoding == "direct":
        crossing = {"cross_rate": config.cross_rate, "eta_c": config.eta_c, **strength}
        return Direct(
            classifier.size, grayscale=classifier.grayscale, rate=config.rate, halve_every=config.halve_every, **crossing
        )
    if config.encoding == "cppn":
        return Cppn(classifier.size, grayscale=classifier.grayscale, rates=config.rates, device=job.inputs.device, **strength)
    return Shapes(
        classifier.size,
        grayscale=classifier.grayscale,
        kind=config.shape,
        count=config.shapes,
        most=5 * config.shapes,
        rate=config.rate,
        cross_rate=config.cross_rate,
        device=job.inputs.device,
        **strength,
    )


def _evolve(config: EvolveConfig, job: Job, evolution: Evolution, names: Sequence[str]) -> str:
    """Run to the end and say why it ended. Whatever stops it earlier, it goes on from a saved state."""
    if (saved := job.resume.get("evolution")) is not None:
        evolution.restore({key: value.numpy() if hasattr(value, "numpy") else value for key, value in saved.items()})
    since, began, first = evolution.generation, time.perf_counter(), evolution.generation
    with job.track(f"evolve {job.name}", config.generations) as bar:
        while evolution.generation < config.generations and not (config.stop_at_goal and evolution.done):
            try:
                generation = evolution.step()
            except QueriesSpent as error:
                if evolution.generation < 0:
                    raise
                return str(error)
            except RunError as error:
                _save_state(job, evolution)
                raise RunError(f"{error} {_resumable(evolution)}") from error
            bar.advance(generation.number, f"median {generation.median:.4g}, least {generation.best.min():.4g}")
            if job.interrupted():
                _save_state(job, evolution)
                write_png(job.results.path("partial"), _sheet(config, evolution, names).image)
                raise Interrupted(f"interrupted; {job.results.path('partial')} shows how far it came. {_resumable(evolution)}")
            if generation.number - since >= config.save_every:
                since = generation.number
                _save_state(job, evolution)
    done = max(1, evolution.generation - first)
    job.record.note(seconds_per_generation=(time.perf_counter() - began) / done)
    return "all generations are done" if evolution.generation == config.generations else "all classes have reached the goal"


def _resumable(evolution: Evolution) -> str:
    return f"The same command goes on after generation {evolution.generation}." if evolution.generation >= 0 else ""


def _save_state(job: Job, evolution: Evolution) -> None:
    if evolution.generation >= 0:
        state = evolution.state()
        job.resume.keep("evolution", {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in state.items()})
        job.resume.save()


def _save_elites(config: EvolveConfig, job: Job, evolution: Evolution, classifier: Classifier, names: Sequence[str]) -> None:
    """The contact sheet, and what the classifier says of the elites as they were saved."""
    archive = evolution.archive
    sheet = _sheet(config, evolution, names)
    page = to_bytes(job.results.save_image(sheet.image)).cpu()
    zoom = _zoom(classifier.size)
    saved = torch.cat([sheet.tile(page, number)[..., ::zoom, ::zoom] for number in range(len(names))])
    try:
        answers = probabilities_of(classifier.evaluate, saved.permute(0, 2, 3, 1).contiguous().numpy(), len(classifier.classes))
    except QueriesSpent:
        answers = None
        job.scores["note"] = "the budget was spent: probabilities are those of the search, not measured again"
    own = archive.best if answers is None else answers[np.arange(len(names)), evolution.targets]
    job.record.note(elites=[{"class": name, "probability": p} for name, p in zip(names, own.tolist(), strict=True)])
    job.scores.update(median=float(np.median(own)), least=float(own.min()))
    job.scores.update(at_least_0_9999=int((own >= 0.9999).sum()), classes=len(own))
    job.results.save_csv(
        ["class", "probability"], [[n, repr(p)] for n, p in zip(names, own.tolist(), strict=True)], "probabilities"
    )
    if config.each:
        for name, image in zip(names, archive.images[:, 0], strict=True):
            job.results.save_picture(torch.from_numpy(image).permute(2, 0, 1).float() / 255, f"elite-{name}")
    if config.render:
        if len(names) * config.render**2 > _MAX_PIXELS:
            raise UserError(
                f"{len(names)} elites of {config.render} px are too much for a sheet. Use fewer targets or less px."
            )
        large = evolution.encoding.render([row[0] for row in archive.genomes if row[0] is not None], config.render)
        tiles = list(map(Image.fromarray, large))
        job.results.save_image(sheets.sheet(tiles, _captions(evolution, names), columns=config.columns).image, "large")


def _zoom(size: int) -> int:
    """Small elites are enlarged so that captions can be read; by whole pixels, so that the saved sheet can be judged."""
    return max(1, 84 // size)


def _captions(evolution: Evolution, names: Sequence[str]) -> list[str]:
    return [f"{name} {_percent(p)}" for name, p in zip(names, evolution.archive.best.tolist(), strict=True)]


def _sheet(config: EvolveConfig, evolution: Evolution, names: Sequence[str]) -> Sheet:
    images = evolution.archive.images[:, 0].repeat(zoom := _zoom(evolution.encoding.size), 1).repeat(zoom, 2)
    return sheets.sheet(list(map(Image.fromarray, images)), _captions(evolution, names), columns=config.columns)


def _percent(probability: float) -> str:
    """Rounded down, so that no 99.99% stands for less; up to four digits behind the point."""
    return f"{math.floor(probability * 1e4) / 1e2:.4g}%"


def _save_history(job: Job, evolution: Evolution, names: Sequence[str]) -> None:
    history = np.array(evolution.history)
    job.results.save_image(class_history(history, names), "history")
    job.results.save_array(history, "history")
    job.record.trace = {"median": np.median(history, 1), "least": history.min(1)}


def _save_lineage(job: Job, evolution: Evolution, names: Sequence[str]) -> None:
    """Each elite's ancestors, oldest first, along the parents that they take after."""
    rows = []
    for name, identity in zip(names, evolution.archive.identities[:, 0].tolist(), strict=True):
        for step, one in enumerate(evolution.lineage.ancestors(identity)):
            surest = names[int(np.flatnonzero(evolution.targets == one.target)[0])]
            parents = one.first_parent, one.second_parent
            rows.append([name, step, one.identity, *parents, one.generation, surest, repr(one.probability)])
    header = ["class", "step", "individual", "parent", "other_parent", "generation", "surest_of", "probability"]
    job.results.save_csv(header, rows, "lineage")


def _save_lineage_frames(job: Job, evolution: Evolution, k: int) -> None:
    lineage = evolution.lineage.ancestors(int(evolution.archive.identities[k, 0]))
    genomes = [one.genome for one in lineage if one.genome is not None]
    size = max(evolution.encoding.size, 192) if evolution.encoding.resizable else None
    frames = [Image.fromarray(image) for image in evolution.encoding.render(genomes, size)]
    zoom = max(1, 192 // frames[0].width)
    frames = [frame.resize((zoom * frame.width,) * 2, Image.Resampling.NEAREST) for frame in frames]
    job.results.save_gif(frames, "lineage", milliseconds=200)
    job.scores["frames"] = len(frames)


def _transfer(job: Job, evolution: Evolution, names: Sequence[str], other: str) -> None:
    """What another network says of the elites: whether it sees the class of the same name in them."""
    asked = NetworkConfig.of(other)
    network, model = job.inputs.network(asked), asked.model
    pictures = torch.from_numpy(evolution.archive.images[:, 0]).permute(0, 3, 1, 2).float().div_(255)
    answers = probabilities_of(NetworkBox(network), _at_size(pictures, network))
    labels = [network.class_name(k) for k in range(answers.shape[1])]
    rows, hits, shared = [], 0, 0
    for name, answer in zip(names, answers, strict=True):
        top = int(answer.argmax())
        try:
            same = find_class(labels, name, network.name)
        except UserError:
            same = None
        shared += same is not None
        hits += same == top
        rows.append([name, "" if same is None else repr(float(answer[same])), labels[top], repr(float(answer[top]))])
    job.results.save_csv(["class", "probability_there", "seen_there", "probability"], rows, f"on-{model}")
    job.scores[f"seen_by_{model}"], job.scores[f"known_to_{model}"] = hits, shared
    job.scores[f"median_certainty_of_{model}"] = float(np.median(answers.max(1)))


def _at_size(pictures: torch.Tensor, network: Network) -> np.ndarray:
    from cnnvis_cli.pictures.read import resize

    resized = resize(pictures, network.size, network.size)
    return np.stack([np.asarray(to_image(picture)) for picture in resized])
