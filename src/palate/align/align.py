"""`align`: a language model and judgments in, an aligned policy out."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from palate.align.groups import PolicyGroups, policy_groups
from palate.align.methods import get as get_method
from palate.align.policy import Policy, policy_score
from palate.align.reference import reference_log_probs
from palate.data import PreferenceData
from palate.errors import ConfigError
from palate.models import CausalLM, LoraSettings, load_causal_lm
from palate.runs import Run
from palate.training import PreferenceTrainer, TrainingConfig, configure, groups_for, order_of
from palate.training.groups import Strategy

MAX_LENGTH = 1024


def align(
    model: str | os.PathLike[str],
    data: PreferenceData,
    method: str = "dpo",
    *,
    out: str | os.PathLike[str] | None = None,
    config: TrainingConfig | Mapping[str, Any] | None = None,
    beta: float | None = None,
    loss_params: Mapping[str, Any] | None = None,
    strategy: Strategy = "best_worst",
    too_long: Literal["error", "drop-count", "cut-and-report"] = "drop-count",
    track_reference: bool = True,
    merge: bool = False,
    cache: Path | None = None,
    **overrides: Any,
) -> Policy:
    """Train a language model on preferences.

    Args:
        model: packaged name, folder or hub id of a causal language model; also the reference.
        data: judgments with responses.
        method: name in `palate.align.METHODS`.
        out: run folder for config.json, data.json, metrics.jsonl, checkpoints and ``model/``; the same call
            on the same folder goes on where it was interrupted, and a finished one is loaded. None keeps
            all in memory.
        config: training settings; `overrides` replace single ones (``steps=60, learning_rate=5e-5``).
        beta: strength, in place of the method's default.
        loss_params: parameters of the loss, in place of the method's.
        strategy: which pairs of a judgment with more than two responses are learnt from.
        too_long: what to do with groups whose response does not fit into `max_length`; they are counted in
            any case.
        track_reference: for methods that need no reference, compute its log-probabilities to log the KL
            estimate.
        merge: save a plain transformers folder with the adapters merged in, not an adapter folder.
        cache: folder for reference log-probabilities; None is in the user's cache.

    Raises:
        DataError: there is nothing to learn from, or a text is missing.
        ConfigError: an unknown method or setting, beta not above 0, or `out` holds another run.
    """
    recipe = get_method(method)
    settings = configure(TrainingConfig, config, **overrides)
    parametrisation, loss = recipe.build(beta, loss_params)
    chosen = groups_for(loss, data, strategy=strategy, seed=settings.seed)
    run = _open(out, model, data, method, settings, beta, loss_params, strategy, too_long, merge)
    if run is not None and run.done("model"):
        return Policy.load(run.path("model"))
    started = time.monotonic()

    lm = load_causal_lm(model, dtype=settings.weights_dtype)
    length = _max_length(settings, lm)
    groups = policy_groups(
        data, chosen, lm.tokenizer, max_length=length, too_long=too_long,
        pad_to_multiple_of=settings.pad_to_multiple_of,
    )  # fmt: skip
    computed = 0
    if parametrisation.needs_reference or track_reference:
        rows = _visited(groups, settings)
        reference = reference_log_probs(lm, groups, rows, cache=cache)
        groups.reference, computed = reference.sums, reference.computed
    if settings.lora:
        adapters = LoraSettings(rank=settings.lora, alpha=2 * settings.lora, seed=settings.seed)
        lm = load_causal_lm(model, dtype=settings.weights_dtype, lora=adapters)
    trainer = PreferenceTrainer(lm.model, groups, policy_score(lm, parametrisation), loss, settings, run=run)
    last = trainer.fit()
    lm.model.eval()
    rates = [row["tokens_per_second"] for row in trainer.history]
    summary = {
        "steps": trainer.args.max_steps,
        "groups": len(groups),
        "left_out": groups.left_out,
        "reference_computed": computed,
        "tokens": groups.tokens.report(),
        "tokens_per_second": sum(rates) / len(rates) if rates else None,
        "seconds": time.monotonic() - started,
        "peak_memory_gb": _peak_memory(),
        "last": {name: last[name] for name in last if name not in ("time", "stage")},
    }
    policy = Policy(
        lm, os.fspath(model), method, recipe.parametrisation, parametrisation.beta, settings.weights_dtype,
        length, summary=summary,
    )  # fmt: skip
    if run is not None:
        policy.save(run.path("model"), merge=merge)
        run.write_json("summary.json", summary)
        run.finish("model")
    return policy


def _open(
    out: str | os.PathLike[str] | None,
    model: str | os.PathLike[str],
    data: PreferenceData,
    method: str,
    settings: TrainingConfig,
    beta: float | None,
    loss_params: Mapping[str, Any] | None,
    strategy: str,
    too_long: str,
    merge: bool,
) -> Run | None:
    if out is None:
        return None
    fingerprint = data.fingerprint()
    run = Run(
        Path(out),
        {
            "command": "align", "model": os.fspath(model), "data": fingerprint, "method": method,
            "beta": beta,
            "loss_params": dict(loss_params or {}), "strategy": strategy, "too_long": too_long,
            "merge": merge,
            "training": settings.model_dump(),
        },
    )  # fmt: skip
    run.write_json("data.json", {"fingerprint": fingerprint, "judgments": data.n_rows, "source": data.source})
    return run


def _visited(groups: PolicyGroups, settings: TrainingConfig) -> Any:
    """Numbers of the groups a run will look at; a short run on much data needs no reference for the rest."""
    size = settings.total_steps(len(groups)) * settings.batch_size * settings.gradient_accumulation
    return order_of(len(groups), size, settings.seed)


def _max_length(settings: TrainingConfig, lm: CausalLM) -> int:
    window = int(getattr(lm.model.config.get_text_config(), "max_position_embeddings", MAX_LENGTH))
    if settings.max_length is not None and settings.max_length > window:
        raise ConfigError(
            f"max_length {settings.max_length} is more than the model's window of {window} tokens"
        )
    return settings.max_length or min(window, MAX_LENGTH)


def _peak_memory() -> float:
    """Most memory this process has held so far, in GB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used * (1 if sys.platform == "darwin" else 1024) / 1e9
