"""Faces of a unit: the pictures that activate it most, in clusters (Nguyen, Yosinski, Clune 2016, multifaceted)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.network.activations import activations, penultimate
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import Activations, Objective, Term, diversity

# How strongly a facet's direction pulls, in standard deviations of the objective over the pictures in the clusters; and where,
# as a share of the layers with maps: deeper, noise satisfies it, further down it is a matter of colours alone.
PULL, DEPTH = 20.0, 0.7
# A face is that of several pictures: fewer are a picture or two that lie apart, and a start that is one photograph is already
# what is asked for. So many pictures for each cluster are looked at where there are as many, however few `share` would leave.
LEAST, ENOUGH = 3, 15


@dataclass(frozen=True)
class Facet:
    """One cluster: its `mean` picture (3, H, W); the numbers of its `members`, most liked first; `middle` and `direction` (D,):
    the mean features of all clusters at the `layer`, and from there to those of this one; `weight`: of a pull that way."""

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
            off = _pooled(acts[self.layer]) - self.middle.to(acts[self.layer])
            return self.weight * F.cosine_similarity(off, self.direction.to(off)[None])

        return Objective(frozenset([self.layer]), value, (Term("facet", self.layer),))


@torch.no_grad()
def facets_of(
    network: Network, objective: Objective, pictures: Tensor, clusters: int, *, seed: int, share: float = 0.5, batch: int = 64
) -> list[Facet]:
    """The `share` of pictures (N, 3, H, W) that the objective likes most, or `ENOUGH` of them, in clusters, the largest first.

    Clusters are k-means on the 50 first principal components of the network's penultimate features; the paper embeds them
    by t-SNE first, which for so few pictures makes no difference. Pictures that lie apart from all others are left out.
    """
    layer, middle = penultimate(network), _layer_of_pull(network)
    found, vectors, pulled = [], [], []
    for part in pictures.split(batch):
        acts = activations(network, part, {*objective.layers, layer, middle})
        found.append(objective(acts))
        vectors.append(_pooled(acts[layer]))
        pulled.append(_pooled(acts[middle]))
    values = torch.cat(found)
    best = values.argsort(descending=True)[: max(ENOUGH * clusters, round(share * len(pictures)))].cpu()
    groups = [best[places] for places in _clusters(torch.cat(vectors).cpu()[best], clusters, seed % 2**32)]
    best = torch.cat(groups)
    means = torch.stack([torch.cat(pulled)[group.to(pictures.device)].mean(0) for group in groups])
    weight = PULL * float(values[best].std(correction=0))
    return [
        Facet(pictures[group].mean(0), group.tolist(), middle, means.mean(0), mean - means.mean(0), weight)
        for group, mean in zip(groups, means, strict=True)
    ]


def _clusters(features: Tensor, clusters: int, seed: int) -> list[Tensor]:
    """The places of features (N, D) in each of the clusters, in their order, the largest cluster first. What lies apart, fewer
    than `LEAST` together, is left out as long as there are enough others."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    left = torch.arange(len(features))
    while True:
        kept = features[left]
        components = PCA(min(50, *kept.shape), random_state=seed).fit_transform(kept.numpy())
        labels = torch.from_numpy(KMeans(clusters, n_init=4, random_state=seed).fit_predict(components)).long()
        sizes = labels.bincount(minlength=clusters)
        near = sizes[labels] >= LEAST
        if near.all() or int(near.sum()) < LEAST * clusters:
            return [left[labels == cluster] for cluster in sizes.argsort(descending=True, stable=True)]
        left = left[near]


def _pooled(acts: Tensor) -> Tensor:
    return acts.flatten(2).mean(2) if acts.ndim > 2 else acts


def _layer_of_pull(network: Network) -> str:
    spatial = [name for name, known in network.layers.items() if known.spatial and known.shape[1] * known.shape[2] > 1]
    return spatial[int(DEPTH * len(spatial))] if spatial else penultimate(network)


@torch.no_grad()
def distance_between(network: Network, layer: str, pictures: Tensor) -> float:
    """0 (alike) to 1: one minus the mean cosine similarity between the Gram matrices of pictures (B, 3, H, W) at a layer, what
    `diversity` lowers."""
    return 1 + float(diversity(layer)(activations(network, pictures, [layer])).mean())
