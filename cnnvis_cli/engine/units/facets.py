"""Faces of a unit: the pictures that activate it most, in clusters (Nguyen, Yosinski, Clune 2016, multifaceted)."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnvis_cli.engine.network.activations import activations, penultimate
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import Objective


@torch.no_grad()
def facet_means(
    network: Network, objective: Objective, pictures: Tensor, clusters: int, *, seed: int, share: float = 0.5, batch: int = 64
) -> Tensor:
    """Mean pictures (clusters, 3, H, W), largest cluster first, of the `share` of pictures (N, 3, H, W) that it likes most.

    Clusters are k-means on the 50 first principal components of the network's penultimate features; the paper embeds them
    by t-SNE first, which for so few pictures makes no difference.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    layer = penultimate(network)
    values, vectors = [], []
    for part in pictures.split(batch):
        acts = activations(network, part, {*objective.layers, layer})
        values.append(objective(acts))
        vectors.append(acts[layer].flatten(2).mean(2) if acts[layer].ndim > 2 else acts[layer])
    best = torch.cat(values).argsort(descending=True)[: max(clusters, round(share * len(pictures)))]
    features = torch.cat(vectors)[best].cpu().numpy()
    components = PCA(min(50, *features.shape), random_state=seed % 2**32).fit_transform(features)
    labels = torch.from_numpy(KMeans(clusters, n_init=4, random_state=seed % 2**32).fit_predict(components))
    order = labels.bincount(minlength=clusters).argsort(descending=True)
    return torch.stack([pictures[best.cpu()[labels == cluster]].mean(0) for cluster in order])
