"""`cnnvis embed`: a layer's features of many pictures in the plane, by PCA and t-SNE."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.metrics import silhouette_score

from cnnvis_cli.commands.shared.feature_index import Index, open_index
from cnnvis_cli.commands.units.atlas import save_atlas
from cnnvis_cli.config.embed import EmbedConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.units.neighbors import chance, nearest, precision_at
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures import scatter
from cnnvis_cli.pictures.read import to_square
from cnnvis_cli.pictures.write import to_image

# Components that t-SNE starts from (van der Maaten and Hinton 2008: 30), and neighbours that the scores look at.
COMPONENTS, NEIGHBORS = 50, 5
# Trustworthiness compares all pairs: of more pictures, a sample of so many is judged.
JUDGED = 3000
# Sides of thumbnails on the map, in pixels, where none is given.
SMALLEST, LARGEST = 40, 128


def run(config: EmbedConfig, job: Job) -> None:
    network = job.inputs.network(config)
    index = open_index(job, network, config)
    if len(index.sources) < 4:
        raise UserError(f"a plane needs at least 4 pictures; {','.join(config.images)} has {len(index.sources)}.")
    features = index.features.numpy().astype(np.float64)
    components = PCA(min(COMPONENTS, *features.shape), random_state=config.seed % 2**32).fit(features)
    reduced = components.transform(features)
    job.check_interrupt()
    perplexity = min(config.perplexity, (len(features) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=config.seed % 2**32).fit_transform(reduced)
    planes = {"PCA": reduced[:, :2], "t-SNE": tsne}
    shares = components.explained_variance_ratio_
    titles = [f"PCA ({shares[:2].sum():.0%} of the variance)", f"t-SNE (perplexity {perplexity:.3g})"]
    job.record.shows(layers=[index.layer])
    by_folder = config.colors == "folder" or (config.colors == "auto" and index.labelled)
    labels = index.labels if by_folder else _predicted(config, job, network, index)
    job.results.save_image(scatter.scatter(list(zip(titles, planes.values(), strict=True)), labels))
    side = config.thumbnail or round(min(LARGEST, max(SMALLEST, scatter.PAGE / 1.6 / len(labels) ** 0.5)))
    drawn = scatter.thumbnail_map if config.arrange == "grid" else scatter.thumbnails_at
    job.results.save_image(drawn(tsne, _thumbnails(job, network, index), side, labels), "map")
    _save_csv(job, index, planes)
    if config.atlas:
        save_atlas(config, job, network, index.sources, labels)
    job.record.note(colors="folder" if by_folder else "predicted class")
    job.scores.update(layer=index.layer, pictures=len(index.sources), reused_from_index=index.reused)
    job.scores["pca_variance"] = float(shares[:2].sum())
    job.scores.update(_quality(index, planes, config.seed))


def _thumbnails(job: Job, network: Network, index: Index) -> Iterator[Image.Image]:
    with job.track("map", len(index.sources)) as bar:
        for done, source in enumerate(index.sources, start=1):
            job.check_interrupt()
            yield to_image(to_square(job.inputs.read(source), network.size, network.preprocessing.resize))
            bar.advance(done)


def _predicted(config: EmbedConfig, job: Job, network: Network, index: Index) -> list[str]:
    """The class that the network takes each picture for."""
    found: list[str] = []
    size = (network.size, network.preprocessing.resize)
    with job.track("predicted classes", len(index.sources)) as bar:
        for _, pictures in job.inputs.stream(index.sources, *size, batch=config.batch, bar=bar):
            with torch.no_grad():
                found += [network.class_name(int(best)) for best in network(pictures).argmax(1)]
    return found


def _save_csv(job: Job, index: Index, planes: dict[str, np.ndarray]) -> None:
    rows = [
        [source.path, source.label, *(f"{value:.6g}" for value in (*pca, *tsne))]
        for source, pca, tsne in zip(index.sources, planes["PCA"], planes["t-SNE"], strict=True)
    ]
    job.results.save_csv(("file", "label", "pca_x", "pca_y", "tsne_x", "tsne_y"), rows, "points")


def _quality(index: Index, planes: dict[str, np.ndarray], seed: int) -> dict[str, float]:
    """Trustworthiness (Venna and Kaski 2001: 1 where neighbours in the plane are neighbours in feature space), and, where
    folders are labels, how many of a picture's 5 neighbours are of its class, in the plane and in feature space."""
    scores = {}
    judged = np.random.default_rng(seed).permutation(len(index.sources))[:JUDGED]
    features = index.features.numpy()
    neighbors = min(NEIGHBORS, len(judged) // 2 - 1)
    for name, points in planes.items():
        scores[f"trustworthiness_{name}"] = float(trustworthiness(features[judged], points[judged], n_neighbors=neighbors))
    if index.labelled:
        own = torch.arange(len(index.sources))
        spaces = {"features": index.features} | {name: torch.from_numpy(points).float() for name, points in planes.items()}
        for name, space in spaces.items():
            found = nearest(space, space, neighbors, "l2", leave_out=own)[1]
            scores[f"precision_at_{neighbors}_{name}"] = precision_at(found, index.labels, index.labels)
            # Rousseeuw 1987: 1 where classes are far apart and tight, 0 where they overlap, below where they are mixed up.
            scores[f"silhouette_{name}"] = float(silhouette_score(space.numpy()[judged], np.array(index.labels)[judged]))
        scores["precision_by_chance"] = chance(index.labels)
    return scores
