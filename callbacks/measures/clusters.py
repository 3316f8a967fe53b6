"""Clustering of features without labels, and how well the clusters agree with classes."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import KernelPCA
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix


def reduce_dimensions(x: np.ndarray, dims: int) -> np.ndarray:
    """Features (N, D) -> their first components (N, at most `dims`) by kernel PCA.

    Schölkopf et al. 1998, https://doi.org/10.1162/089976698300017467, with the kernel exp(-|a - b|^2 / (D v)), v the
    mean variance of a feature.
    """
    kernel = {"kernel": "rbf", "gamma": 1 / x.var(0).sum()}
    return KernelPCA(min(dims, len(x) - 1), eigen_solver="arpack", random_state=0, **kernel).fit_transform(x)


def assign_clusters(x: np.ndarray, count: int) -> np.ndarray:
    """Points (N, D) -> the cluster of each (N,), one of `count`, by k-means."""
    return KMeans(count, n_init=10, random_state=0).fit_predict(x)


def match_classes(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Clusters and classes of examples (N,) -> the class that each example's cluster stands for (N,), -1 for none.

    A cluster stands for one class at most, and a class for one cluster at most, so that as many examples are right as
    can be (Kuhn 1955, https://doi.org/10.1002/nav.3800020109): for two of both, the accuracy is max(a, 1 - a).
    """
    (cluster_ids, cluster), (classes, kind) = (np.unique(x, return_inverse=True) for x in (clusters, labels))
    rows, columns = linear_sum_assignment(contingency_matrix(cluster, kind), maximize=True)
    stands_for = np.full(len(cluster_ids), -1)
    stands_for[rows] = classes[columns]
    return stands_for[cluster]


def measure_agreement(clusters: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compare clusters with classes, (N,) each.

    The accuracy is the share that `match_classes` gets right; normalized mutual information is 0 to 1; the adjusted
    Rand index is 0 for chance and 1 for the same partition.
    """
    return {
        "cluster_accuracy": float((match_classes(clusters, labels) == labels).mean()),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
    }
