"""Dawid-Skene: true labels and each annotator's confusions, estimated together by EM."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from palate.errors import ConfigError, PalateWarning

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.integer]

MAX_CELLS = 1 << 27
"""Most entries of all confusion matrices together (1 GB)."""

_TINY = 1e-300  # a probability that stands for 0 under the logarithm


@dataclass(frozen=True)
class DawidSkene:
    """What `dawid_skene` learned about T tasks, A annotators and L labels.

    Attributes:
        posterior: probability of each label of each task, shape (T, L).
        prior: share of each true label, shape (L,).
        confusion: `confusion[k, c, l]` is the probability that annotator k says l where c is true, shape
            (A, L, L).
        log_likelihood: of the votes, the true labels being summed out.
        n_iter: steps taken.
        converged: whether the posterior stood still before the last step allowed.
    """

    posterior: Floats
    prior: Floats
    confusion: Floats
    log_likelihood: float
    n_iter: int
    converged: bool

    @property
    def labels(self) -> Ints:
        """The most probable label of each task, the first of equally probable ones; shape (T,)."""
        return np.asarray(self.posterior.argmax(axis=1), dtype=np.int64)

    @property
    def reliability(self) -> Floats:
        """Probability that an annotator says the true label, sum_c prior_c confusion[k, c, c]; shape (A,)."""
        return np.asarray(np.einsum("c,kcc->k", self.prior, self.confusion))


def dawid_skene(
    task: Codes,
    annotator: Codes,
    label: Codes,
    *,
    n_labels: int | None = None,
    weight: Floats | None = None,
    smoothing: float = 1.0,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> DawidSkene:
    """Maximum likelihood (or, smoothed, maximum a posteriori) by EM (Dawid and Skene 1979).

    Task t has a true label c with probability `prior[c]`; annotator k then says l with probability
    `confusion[k, c, l]`, independently of all others. EM starts from the shares of the votes.

    Args:
        task, annotator, label: codes 0, 1, ... of each vote, shape (N,) each.
        n_labels: number of labels; that of the codes if None.
        weight: how much each vote counts, shape (N,); 1 if None.
        smoothing: so many votes are added to each row of each confusion matrix, divided as the votes of all
            annotators together are against the shares of the votes. An annotator with few votes is thereby
            taken to be much like the others; 0 is the method of the paper, in which a label that an
            annotator never gave is impossible for that annotator.
        tolerance: EM ends when no posterior probability changes by more.
        max_iterations: most steps; a `PalateWarning` says if they were not enough.

    Raises:
        ConfigError: no votes, arrays of different lengths, a negative code, a label beyond `n_labels`, a
            setting that cannot be used, or so many annotators and labels that their confusions exceed memory.
    """
    votes = _Votes.of(task, annotator, label, n_labels, weight)
    if not (np.isfinite(smoothing) and smoothing >= 0 and tolerance > 0 and max_iterations >= 1):
        raise ConfigError("give a smoothing of 0 or more, a tolerance above 0 and at least one iteration")
    posterior = votes.shares()
    pooled = votes.said(posterior).reshape(votes.shape).sum(axis=0)
    mass = pooled.sum(axis=1, keepdims=True)
    extra = smoothing * np.divide(pooled, mass, out=np.full_like(pooled, 1.0 / len(pooled)), where=mass > 0)
    converged, n_iter = False, 0
    while not converged and n_iter < max_iterations:
        n_iter += 1
        prior = posterior.mean(axis=0)
        confusion = votes.confusion(posterior, extra)
        updated, likelihood = votes.posterior(prior, confusion)
        converged = bool(np.abs(updated - posterior).max() <= tolerance)
        posterior = updated
    if not converged:
        warnings.warn(
            f"Dawid-Skene did not settle within {max_iterations} steps; its labels are those of the last",
            PalateWarning,
            stacklevel=2,
        )
    return DawidSkene(posterior, prior, confusion, likelihood, n_iter, converged)


@dataclass(frozen=True)
class _Votes:
    """Votes as a sparse matrix: a row per task, a column per annotator and label said."""

    by_task: csr_array
    by_column: csr_array
    n_annotators: int
    n_labels: int

    @classmethod
    def of(
        cls, task: Codes, annotator: Codes, label: Codes, n_labels: int | None, weight: Floats | None
    ) -> _Votes:
        arrays = {"task": np.asarray(task), "annotator": np.asarray(annotator), "label": np.asarray(label)}
        mass = np.ones(len(arrays["task"])) if weight is None else np.asarray(weight, dtype=np.float64)
        if {len(values) for values in arrays.values()} != {len(mass)}:
            raise ConfigError("task, annotator, label and weight need one entry per vote each")
        if len(mass) == 0:
            raise ConfigError("there are no votes")
        for name, codes in arrays.items():
            if not np.issubdtype(codes.dtype, np.integer) or codes.min() < 0:
                raise ConfigError(f"{name} must hold codes 0, 1, ...; leave out votes that lack one")
        labels = int(arrays["label"].max()) + 1
        if n_labels is not None and labels > n_labels:
            raise ConfigError(f"the label {labels - 1} is beyond the {n_labels} labels (0 to {n_labels - 1})")
        labels = labels if n_labels is None else n_labels
        tasks, annotators = int(arrays["task"].max()) + 1, int(arrays["annotator"].max()) + 1
        if annotators * labels * labels > MAX_CELLS:
            raise ConfigError(
                f"confusions of {annotators} annotators over {labels} labels exceed memory; "
                "use method 'median' or 'mean' for fine scales"
            )
        column = arrays["annotator"].astype(np.int64) * labels + arrays["label"]
        by_task = csr_array((mass, (arrays["task"], column)), shape=(tasks, annotators * labels))
        return cls(by_task, by_task.T.tocsr(), annotators, labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(annotators, label said, true label), the layout in which counts come."""
        return self.n_annotators, self.n_labels, self.n_labels

    def shares(self) -> Floats:
        """Share of each label among the votes of each task; equal shares where there are none."""
        which = np.tile(np.eye(self.n_labels), (self.n_annotators, 1))
        counts = np.asarray(self.by_task @ which)
        total = counts.sum(axis=1, keepdims=True)
        even = np.full_like(counts, 1.0 / self.n_labels)
        return np.asarray(np.divide(counts, total, out=even, where=total > 0))

    def said(self, posterior: Floats) -> Floats:
        """Expected votes by annotator, label said and true label, shape (A * L, L)."""
        return np.asarray(self.by_column @ posterior)

    def confusion(self, posterior: Floats, extra: Floats) -> Floats:
        counts = self.said(posterior).reshape(self.shape) + extra
        total = counts.sum(axis=1, keepdims=True)
        # A true label that an annotator never met says nothing about that annotator: any row will do.
        rows = np.divide(counts, total, out=np.full_like(counts, 1.0 / self.n_labels), where=total > 0)
        return np.ascontiguousarray(rows.transpose(0, 2, 1))

    def posterior(self, prior: Floats, confusion: Floats) -> tuple[Floats, float]:
        """Probabilities of the true labels, and the log-likelihood of the votes."""
        said = np.log(np.maximum(confusion.transpose(0, 2, 1), _TINY)).reshape(-1, self.n_labels)
        joint = np.asarray(self.by_task @ said) + np.log(np.maximum(prior, _TINY))
        top = joint.max(axis=1, keepdims=True)
        np.exp(joint - top, out=joint)
        total = joint.sum(axis=1, keepdims=True)
        return np.asarray(joint / total), float((np.log(total) + top).sum())
