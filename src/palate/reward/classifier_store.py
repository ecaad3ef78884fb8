"""A classifier on disk: ``classifier.json`` says what it is, ``weights.safetensors`` holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of

from palate.errors import ConfigError
from palate.reward.classifier import PreferenceAugmentedClassifier
from palate.runs import atomic_write, to_json

KIND, VERSION = "palate.classifier", 1


def save(model: PreferenceAugmentedClassifier, folder: Path) -> Path:
    """Write a fitted model; ``classifier.json`` comes last, so that a folder which has it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    params = model.get_params()
    if isinstance(params["training"], BaseModel):
        params["training"] = params["training"].model_dump()
    names = model.classes_.tolist()
    if params["classes"] is not None:
        params["classes"] = names
    state = {
        "kind": KIND,
        "version": VERSION,
        "params": params,
        "classes": names,
        "dim": model.network_.trunk.dim,
        "fit": model.fit_,
        "n_alone": model.n_alone_,
        "n_unjudged": model.n_unjudged_,
        "encoder_fingerprint": model.encoder_fingerprint_,
    }
    weights = {name: value.contiguous() for name, value in model.network_.state_dict().items()}
    with atomic_write(folder / "weights.safetensors", "wb") as file:
        file.write(bytes_of(weights))
    with atomic_write(folder / "classifier.json") as file:
        file.write(to_json(state))
    return folder


def load(folder: Path) -> PreferenceAugmentedClassifier:
    """Read what `save` wrote."""
    state = _description(folder / "classifier.json")
    try:
        model = PreferenceAugmentedClassifier(**state["params"])
        model.classes_ = np.asarray(state["classes"])
        model.fit_, model.n_alone_, model.n_unjudged_ = state["fit"], state["n_alone"], state["n_unjudged"]
        model.encoder_fingerprint_ = state["encoder_fingerprint"]
        model.network_ = model.new_network(state["dim"])
        model.network_.load_state_dict(tensors_from((folder / "weights.safetensors").read_bytes()))
    except (KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise ConfigError(
            f"{folder} does not hold what its classifier.json says ({str(error).splitlines()[0]}); "
            "fit and save the classifier again"
        ) from None
    model.network_.eval()
    return model


def _description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path.parent} holds no classifier: {path.name} is missing")
    try:
        state = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ConfigError(f"{path} is damaged; fit and save the classifier again") from None
    if not isinstance(state, dict) or state.get("kind") != KIND:
        raise ConfigError(f"{path} does not describe a classifier")
    if state.get("version") != VERSION:
        raise ConfigError(
            f"{path.parent} is a classifier of version {state.get('version')}; this Palate reads version "
            f"{VERSION}: fit and save it again"
        )
    return state
