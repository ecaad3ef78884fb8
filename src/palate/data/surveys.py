"""People's choices that come with statsmodels (public domain): voters and travellers, with features."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from palate.data.table import PreferenceData
from palate.errors import MissingDependency


def anes96() -> PreferenceData:
    """944 American voters of 1996 choosing between Clinton and Dole.

    One judgment per voter, protocol `choice`, items Clinton and Dole; `features` (2, 3) per judgment: the
    distance between the voter's own place on the seven-point left-right scale and where the voter puts the
    candidate; the distance of the voter's party identification (0 strong Democrat to 6 strong Republican)
    from the candidate's party; and 1 for Clinton (the constant by which he is ahead otherwise).

    Raises:
        MissingDependency: statsmodels is not installed.
    """
    frame = _statsmodels("anes96")
    voter, clinton, dole = (np.asarray(frame[name], dtype=float) for name in ("selfLR", "ClinLR", "DoleLR"))
    party, vote = np.asarray(frame["PID"], dtype=float), np.asarray(frame["vote"], dtype=float)
    place = np.abs(voter[:, None] - np.stack([clinton, dole], axis=1))
    identification = np.abs(party[:, None] - np.array([0.0, 6.0]))
    constant = np.broadcast_to([1.0, 0.0], place.shape)
    features = np.stack([place, identification, constant], axis=2)
    scores = np.stack([1.0 - vote, vote], axis=1)
    return _choices(["Clinton", "Dole"], scores, features, "voter", "vote for president 1996")


def modechoice() -> PreferenceData:
    """210 travellers between Sydney, Canberra and Melbourne choosing to go by air, train, bus or car.

    One judgment per traveller, protocol `choice`, four items; `features` (4, 7) per judgment: terminal wait
    (minutes), in-vehicle cost, travel time (minutes), generalised cost, and constants for air, train and
    bus.

    Raises:
        MissingDependency: statsmodels is not installed.
    """
    frame = _statsmodels("modechoice")
    values = np.stack(
        [np.asarray(frame[name], dtype=float) for name in ("ttme", "invc", "invt", "gc")], axis=1
    )
    attributes = values.reshape(-1, 4, 4)
    constants = np.broadcast_to(np.eye(4)[:, :3], (len(attributes), 4, 3))
    scores = np.asarray(frame["choice"], dtype=float).reshape(-1, 4)
    features = np.concatenate([attributes, constants], axis=2)
    return _choices(["air", "train", "bus", "car"], scores, features, "traveller", "way to travel")


def _statsmodels(name: str) -> Any:
    try:
        from statsmodels import datasets
    except ImportError:
        raise MissingDependency(f"the data set {name}", "demo") from None
    return getattr(datasets, name).load_pandas().data


def _choices(
    items: list[str], scores: npt.NDArray[Any], features: npt.NDArray[Any], who: str, prompt: str
) -> PreferenceData:
    n = len(scores)
    return PreferenceData.from_columns(
        {
            "prompt_id": [f"{who} {i + 1}" for i in range(n)],
            "prompt": [prompt] * n,
            "items": [items] * n,
            "features": features.tolist(),
            "scores": scores.tolist(),
            "scale": ["ordinal"] * n,
            "protocol": ["choice"] * n,
            "annotator": [f"{who} {i + 1}" for i in range(n)],
            "annotator_kind": ["human"] * n,
        }
    )
