"""A reward model on disk: ``reward.json`` says what it is, ``weights.safetensors`` and ``model/`` hold it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of

from palate import losses
from palate.errors import ConfigError
from palate.reward import heads
from palate.reward.scorers import FEATURES, make_scorer
from palate.reward.settings import check_settings
from palate.runs import atomic_write, to_json

if TYPE_CHECKING:
    from palate.judges.feature_judge import FeatureJudge
    from palate.reward.model import RewardModel

VERSION = 2
KIND = "palate.reward"


def save(model: RewardModel, folder: Path) -> Path:
    """Write a fitted model; ``reward.json`` comes last, so that a folder which has it is whole."""
    params = model.get_params()
    if isinstance(params["training"], BaseModel):
        params["training"] = params["training"].model_dump()
    if not isinstance(params["encoder"], str):
        # A judge of features is code; what it fed the model stays, its names in order.
        params |= {"encoder": FEATURES, "feature_names": list(model.feature_names_)}
    described, tensors = model.scorer_.write(folder)
    state = {
        "kind": KIND,
        "version": VERSION,
        "params": params,
        "head": heads.described(model.head_),
        "scorer": described,
        "fit": model.fit_,
        "n_groups": model.n_groups_,
        "n_ties": model.n_ties_,
        "data_fingerprint": model.data_fingerprint_,
    }
    weights = {f"network.{name}": value for name, value in tensors.items()}
    weights |= {f"head.{name}": value for name, value in model.head_.state_dict().items()}
    weights |= {f"loss.{name}": value for name, value in model.loss_.state_dict().items()}
    with atomic_write(folder / "weights.safetensors", "wb") as file:
        file.write(bytes_of({name: value.contiguous() for name, value in weights.items()}))
    with atomic_write(folder / "reward.json") as file:
        file.write(to_json(state))
    return folder


def load(folder: Path, encoder: FeatureJudge | None = None) -> RewardModel:
    """Read what `save` wrote; a model of features can be given the judge that scores them."""
    from palate.reward.model import RewardModel

    state = _description(folder)
    try:
        model = RewardModel(**state["params"])
        check_settings(model.get_params())
        model.fit_, model.n_groups_, model.n_ties_ = state["fit"], state["n_groups"], state["n_ties"]
        model.data_fingerprint_ = state["data_fingerprint"]
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder}/reward.json is damaged ({error}); fit and save the model again"
        ) from None
    if encoder is not None:
        if model.encoder != FEATURES or not model.feature_names:
            raise ConfigError(f"{folder} holds no model of named features, for which a judge could be given")
        model.encoder = encoder
    try:
        weights = tensors_from((folder / "weights.safetensors").read_bytes())
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{folder}/weights.safetensors cannot be read ({error}); fit and save the model again"
        ) from None
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ConfigError(
                f"{folder}/weights.safetensors: {name} is not finite; fit and save the model again"
            )
    model.loss_ = losses.get(model.loss, **(model.loss_params or {})).double()
    parts = {
        part: {name[len(part) + 1 :]: value for name, value in weights.items() if name.startswith(f"{part}.")}
        for part in ("loss", "head", "network")
    }
    try:
        model.loss_.load_state_dict(parts["loss"])
        model.head_ = heads.rebuilt(state["head"]).double()
        model.head_.load_state_dict(parts["head"])
        model.scorer_ = make_scorer(model.get_params(), model.head_)
        model.scorer_.read(folder, state["scorer"], parts["network"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} does not hold what its reward.json says ({str(error).splitlines()[0]})"
        ) from None
    return model


def _description(folder: Path) -> dict[str, Any]:
    path = folder / "reward.json"
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds no reward model: reward.json is missing; "
            "give a folder that RewardModel.save wrote"
        )
    try:
        state: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (
        ValueError,
        RecursionError,
    ):  # no JSON, no UTF-8, a number of thousands of digits, endless nesting
        raise ConfigError(f"{path} is damaged; fit and save the model again") from None
    if not isinstance(state, dict) or state.get("kind") != KIND:
        raise ConfigError(f"{path} does not describe a reward model")
    if state.get("version") != VERSION:
        raise ConfigError(
            f"{folder} is a reward model of version {state.get('version')}; "
            f"this Palate reads version {VERSION}: fit and save it again"
        )
    return state
