"""Named methods: a parametrisation, a loss and their defaults, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from palate import losses
from palate.align.parametrisation import Parametrisation
from palate.align.parametrisation import get as get_parametrisation
from palate.errors import ConfigError, unknown


@dataclass(frozen=True)
class Method:
    """How a policy's log-probabilities become a loss.

    Attributes:
        parametrisation: name in `palate.align.parametrisation`.
        loss: name in `palate.losses`.
        beta: default strength.
        beta_of_loss: the loss's parameter that beta is; None where beta scales the parametrisation.
        loss_params: further parameters of the loss.
        source: paper and equation.
    """

    parametrisation: str
    loss: str
    beta: float
    source: str
    beta_of_loss: str | None = None
    loss_params: Mapping[str, Any] = field(default_factory=dict)

    def build(
        self, beta: float | None = None, loss_params: Mapping[str, Any] | None = None
    ) -> tuple[Parametrisation, losses.Loss]:
        """The parametrisation and the loss, with `beta` and `loss_params` in place of the defaults.

        Raises:
            ConfigError: beta is not above 0, or the loss has no such parameter.
        """
        beta = self.beta if beta is None else beta
        if not 0 < beta < float("inf"):
            raise ConfigError(f"beta must be above 0 and finite; got {beta}")
        params = {**self.loss_params, **(loss_params or {})}
        if self.beta_of_loss is None:
            return get_parametrisation(self.parametrisation, beta), losses.get(self.loss, **params)
        params.setdefault(self.beta_of_loss, beta)
        return get_parametrisation(self.parametrisation, 1.0), losses.get(self.loss, **params)


METHODS: dict[str, Method] = {
    "dpo": Method("log_ratio", "bradley_terry", 0.1, "Rafailov et al. 2023, eq. 7"),
    "cdpo": Method(
        "log_ratio", "bradley_terry", 0.1, "conservative DPO, Mitchell 2023", loss_params={"smoothing": 0.1}
    ),
    "robust_dpo": Method("log_ratio", "robust", 0.1, "Chowdhury et al. 2024", loss_params={"flip": 0.1}),
    "ipo": Method("log_ratio", "ipo", 0.1, "Azar et al. 2023, eq. 17, on sums", beta_of_loss="tau"),
    "ipo_mean": Method("mean_log_ratio", "ipo", 0.1, "Azar et al. 2023, on token means", beta_of_loss="tau"),
    "hinge": Method("log_ratio", "hinge", 0.1, "SLiC's hinge on log-ratios, Liu et al. 2023 (RSO)"),
    "exo": Method("log_ratio", "exo", 0.1, "Ji et al. 2024, pairs"),
    "discopop": Method("log_ratio", "discopop", 0.05, "Lu et al. 2024"),
    "nca": Method("log_ratio", "nca", 0.01, "Chen et al. 2024, pairs", beta_of_loss="beta"),
    "sppo": Method("log_ratio", "sppo", 0.001, "Wu et al. 2024, hard form", beta_of_loss="beta"),
    "apo_zero": Method("log_ratio", "apo_zero", 0.1, "D'Oosterlinck et al. 2024", beta_of_loss="beta"),
    "apo_down": Method("log_ratio", "apo_down", 0.1, "D'Oosterlinck et al. 2024", beta_of_loss="beta"),
    "bco": Method("log_ratio", "bco", 0.01, "Jung et al. 2024", beta_of_loss="beta"),
    "dpo_lists": Method("log_ratio", "listmle", 0.1, "Rafailov et al. 2023, appendix A.3 (Plackett-Luce)"),
    "simpo": Method(
        "mean_log_prob", "bradley_terry", 2.0, "Meng et al. 2024, eq. 6", loss_params={"label_margin": 1.0}
    ),
    "logistic_log_prob": Method(
        "sum_log_prob", "bradley_terry", 0.1, "preference part of CPO, Xu et al. 2024, eq. 3"
    ),
}  # fmt: skip


def get(name: str) -> Method:
    """A method by name.

    Raises:
        ConfigError: no method has this name.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]
