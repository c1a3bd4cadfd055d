"""Faces of a unit: the pictures that activate it most, in clusters (Nguyen, Yosinski, Clune 2016, multifaceted)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.network.activations import activations, penultimate
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import Activations, Objective, Term, diversity


@dataclass(frozen=True)
class Facet:
    """One cluster: its `mean` picture (3, H, W); the numbers of its `members`, most liked first; `middle` and `direction` (D,):
    the mean features of all clusters, and from there to those of this one; `weight`: of a pull along the direction."""

    mean: Tensor
    members: list[int]
    layer: str
    middle: Tensor
    direction: Tensor
    weight: float

    def pull(self) -> Objective:
        """The cosine between the direction and where a picture's features lie from the middle, in units of the objective's own
        differences. From a mean picture alone the objective goes to one and the same place for all facets; Goh et al. 2021
        ("Multimodal neurons", faceted feature visualization) steer by a probe of the features in the same way."""

        def value(acts: Activations) -> Tensor:
            features = acts[self.layer].flatten(2).mean(2) if acts[self.layer].ndim > 2 else acts[self.layer]
            return self.weight * F.cosine_similarity(features - self.middle.to(features), self.direction.to(features)[None])

        return Objective(frozenset([self.layer]), value, (Term("facet", self.layer),))


@torch.no_grad()
def facets_of(
    network: Network, objective: Objective, pictures: Tensor, clusters: int, *, seed: int, share: float = 0.5, batch: int = 64
) -> list[Facet]:
    """The `share` of pictures (N, 3, H, W) that the objective likes most, in clusters, the largest first.

    Clusters are k-means on the 50 first principal components of the network's penultimate features; the paper embeds them
    by t-SNE first, which for so few pictures makes no difference.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    layer = penultimate(network)
    found, vectors = [], []
    for part in pictures.split(batch):
        acts = activations(network, part, {*objective.layers, layer})
        found.append(objective(acts))
        vectors.append(acts[layer].flatten(2).mean(2) if acts[layer].ndim > 2 else acts[layer])
    values = torch.cat(found)
    best = values.argsort(descending=True)[: max(clusters, round(share * len(pictures)))]
    features = torch.cat(vectors)[best].cpu()
    components = PCA(min(50, *features.shape), random_state=seed % 2**32).fit_transform(features.numpy())
    labels = torch.from_numpy(KMeans(clusters, n_init=4, random_state=seed % 2**32).fit_predict(components))
    order = labels.bincount(minlength=clusters).argsort(descending=True)
    spread = float(values[best].std(correction=0)) if len(best) > 1 else 0.0
    means = torch.stack([features[labels == cluster].mean(0) for cluster in order])
    return [
        Facet(
            pictures[best.cpu()[labels == cluster]].mean(0),
            best.cpu()[labels == cluster].tolist(),
            layer,
            means.mean(0),
            mean - means.mean(0),
            PULL * spread,
        )
        for cluster, mean in zip(order, means, strict=True)
    ]


# How strongly a facet's direction pulls, in standard deviations of the objective over the pictures in the clusters.
PULL = 4.0


@torch.no_grad()
def distance_between(network: Network, layer: str, pictures: Tensor) -> float:
    """0 (alike) to 1: one minus the mean cosine similarity between the Gram matrices of pictures (B, 3, H, W) at a layer, what
    `diversity` lowers."""
    return 1 + float(diversity(layer)(activations(network, pictures, [layer])).mean())
