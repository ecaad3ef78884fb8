"""An aligned policy: writes, scores, and judges by its implicit reward."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from palate.align.groups import pad
from palate.align.parametrisation import Parametrisation
from palate.align.parametrisation import get as get_parametrisation
from palate.errors import ConfigError
from palate.judges.base import Judge, Scores
from palate.models import CausalLM, SequenceScores, generate, group_log_probs, load_causal_lm, tokenize_groups
from palate.runs import atomic_write, to_json
from palate.training import extremes
from palate.training.metrics import Scored

VERSION = 1
NOTE = "palate.json"
PAD = 16


@dataclass
class Policy:
    """A language model that has been aligned, with what is needed to read its implicit reward.

    Attributes:
        lm: the model with its tokenizer.
        base: name, folder or hub id of the model it started from; the reference.
        method: name of the method.
        parametrisation: how log-probabilities become scores.
        dtype: of the weights while training; the reference is loaded in the same.
        max_length: most tokens of a prompt and response.
        folder: where it is kept, if it was saved.
        summary: what the training did: steps, groups, what was left out, seconds, tokens per second, peak
            memory.
    """

    lm: CausalLM
    base: str
    method: str
    parametrisation_name: str
    beta: float
    dtype: str
    max_length: int
    folder: Path | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    _reference: CausalLM | None = field(default=None, repr=False)

    @property
    def parametrisation(self) -> Parametrisation:
        return get_parametrisation(self.parametrisation_name, self.beta)

    @property
    def reference(self) -> CausalLM:
        """The model this one started from, loaded when first asked for."""
        if self._reference is None:
            self._reference = load_causal_lm(self.base, dtype=self.dtype)
        return self._reference

    def generate(self, prompts: Sequence[Any], **options: Any) -> list[list[str]]:
        """Sample responses; see `palate.models.generate` for the options."""
        return generate(self.lm, prompts, **options)

    def log_probs(
        self, prompts: Sequence[Any], responses: Sequence[Sequence[str]], batch_size: int = 8
    ) -> SequenceScores:
        """Sums over tokens and token counts of k responses per prompt, shape (n, k), 0 where padded."""
        return self._log_probs(self.lm, prompts, responses, batch_size)

    def reference_log_probs(
        self, prompts: Sequence[Any], responses: Sequence[Sequence[str]], batch_size: int = 8
    ) -> SequenceScores:
        """As `log_probs`, under the reference."""
        return self._log_probs(self.reference, prompts, responses, batch_size)

    def _log_probs(
        self, lm: CausalLM, prompts: Sequence[Any], responses: Sequence[Sequence[str]], batch_size: int
    ) -> SequenceScores:
        tokens = tokenize_groups(
            lm.tokenizer, prompts, responses, max_length=self.max_length, too_long="cut-and-report"
        )
        k = max((len(group) for group in responses), default=0)
        sums, counts = torch.zeros(len(tokens), k), torch.zeros(len(tokens), k, dtype=torch.long)
        order = np.argsort(-tokens.lengths, kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                found = group_log_probs(lm, pad(tokens.collate(rows), PAD, tokens.pad_id))
                sums[rows, : found.sum.shape[1]] = found.sum.float().cpu()
                counts[rows, : found.sum.shape[1]] = found.count.cpu()
        return SequenceScores(sum=sums, count=counts)

    def implicit_reward(self, prompts: Sequence[Any], responses: Sequence[str]) -> npt.NDArray[np.float64]:
        """The score that training gave each response, in units of the method's loss; shape (n,)."""
        groups = [[response] for response in responses]
        own = self.log_probs(prompts, groups)
        needed = self.parametrisation.needs_reference
        other = self.reference_log_probs(prompts, groups).sum if needed else None
        return np.asarray(self.parametrisation(own, other)[:, 0].double().numpy())

    def judge(self, name: str = "implicit_reward") -> ImplicitRewardJudge:
        """This policy as a judge of responses."""
        return ImplicitRewardJudge(name, policy=self)

    # -- keeping --

    def save(self, folder: str | Path, *, merge: bool = False) -> Path:
        """Write a transformers folder, or a peft adapter folder if it has adapters and `merge` is false."""
        folder = Path(folder)
        lm = self.lm
        if merge and hasattr(lm.model, "merge_and_unload"):
            lm = CausalLM(lm.model.merge_and_unload(), lm.tokenizer, lm.name, lm.fingerprint)
            self.lm = lm
        lm.save(folder)
        note = {
            "kind": "palate.policy", "version": VERSION, "base": self.base, "method": self.method,
            "parametrisation": self.parametrisation_name, "beta": self.beta, "dtype": self.dtype,
            "max_length": self.max_length, "summary": self.summary,
        }  # fmt: skip
        with atomic_write(folder / NOTE) as file:
            file.write(to_json(note))
        self.folder = folder
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Policy:
        """Read what `save` or `align` wrote.

        Raises:
            ConfigError: the folder is no policy of Palate's, or is of another version.
        """
        folder = Path(folder)
        path = folder / NOTE
        if not path.is_file():
            raise ConfigError(
                f"{folder} holds no policy: {NOTE} is missing; give a folder that palate.align wrote"
            )
        try:
            note = json.loads(path.read_text("utf-8"))
        except json.JSONDecodeError:
            raise ConfigError(f"{path} is damaged; align again") from None
        if note.get("kind") != "palate.policy" or note.get("version") != VERSION:
            raise ConfigError(
                f"{path} is of version {note.get('version')}; this Palate reads {VERSION}: align again"
            )
        lm = load_causal_lm(str(folder), dtype=note["dtype"])
        return cls(
            lm, note["base"], note["method"], note["parametrisation"], note["beta"], note["dtype"],
            note["max_length"], folder, note["summary"],
        )  # fmt: skip


@dataclass
class ImplicitRewardJudge(Judge):
    """Judges by a policy's implicit reward: what it learnt to find likelier than its reference does (DPO,
    eq. 5).

    The difference of two scores is the log-odds of preference that the training fitted.
    """

    native: ClassVar[frozenset[str]] = frozenset({"score"})
    calibrated: ClassVar[bool] = True
    order_matters: ClassVar[bool] = False
    policy: Policy | None = field(default=None, kw_only=True)

    def _score(self, prompts: list[str], responses: list[str], **options: Any) -> Scores:
        if self.policy is None:
            raise ConfigError("this judge has no policy; use Policy.judge()")
        return Scores(self.policy.implicit_reward(prompts, responses))


def policy_score(lm: CausalLM, parametrisation: Parametrisation) -> Callable[[Any, dict[str, Any]], Scored]:
    """The score function a policy is trained with, with what every run of a policy watches.

    Watched, one value a group: `chosen_log_prob` and `rejected_log_prob` (sums over tokens, best and worst
        response),
    `ranking_accuracy` (whether the policy gives the best one more probability, which is not the `accuracy` of
    scores), and where a reference is known `kl`: half the mean squared log-ratio of the group's responses.
    That is the KL divergence from policy to reference to second order if the responses were the policy's
    own; on other responses it says how far it has moved on them.
    """

    def score(model: Any, batch: dict[str, Any]) -> Scored:
        on = CausalLM(model, lm.tokenizer, lm.name, lm.fingerprint)
        found = group_log_probs(on, batch["tokens"])
        known = not bool(batch["reference"].isnan()[batch["mask"]].any())
        reference = batch["reference"].to(found.sum.device) if known else None
        scores = parametrisation(found, reference.nan_to_num(0.0) if reference is not None else None)
        total, mask = found.sum.detach(), batch["mask"]
        rows = torch.arange(len(total), device=total.device)
        best, worst, differ = extremes(batch["targets"], mask)
        nothing = ~differ
        ahead = 0.5 + 0.5 * torch.sign(total[rows, best] - total[rows, worst])
        watched = {
            "chosen_log_prob": total[rows, best].masked_fill(nothing, torch.nan),
            "rejected_log_prob": total[rows, worst].masked_fill(nothing, torch.nan),
            "ranking_accuracy": ahead.masked_fill(nothing, torch.nan),
        }
        if reference is not None:
            squared = ((total - reference) ** 2).masked_fill(~mask, torch.nan)
            watched["kl"] = 0.5 * squared.nanmean(1)
        return Scored(scores, watched, int(batch["tokens"].attention_mask.sum()))

    return score
