"""Judges and preferences between inputs of one class: asking a judge, and being one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from palate.data.label_preferences import FIRST, NONE, SECOND, LabelPreferences, random_partners
from palate.errors import ConfigError, DataError, PalateWarning
from palate.judges.base import Comparison, Judge
from palate.reward.labels import checked_labels

if TYPE_CHECKING:
    from palate.reward.classifier import PreferenceAugmentedClassifier


def preferences_from_judge(
    judge: Judge,
    X: Sequence[str],
    y: npt.ArrayLike,
    label_text: Mapping[Any, str],
    partners: int = 1,
    seed: int = 0,
    *,
    question: str = "Which of the two texts is more {label}?",
) -> LabelPreferences:
    """Ask a judge which of two inputs of one class is more of it (Kim et al., 2023, ask a language model).

    Args:
        judge: is asked `question` as the prompt, with the two inputs as responses; a probability of one half
            is a preference for neither.
        X: n texts.
        y: shape (n,), labels.
        label_text: what to call each label in the question.
        partners: how many random others of its class each input is compared with.
        seed: of the partners.
        question: with ``{label}`` where the name of the class goes.

    Raises:
        DataError: numbers of texts and labels differ, a label has no text, no two inputs have the same label,
            or the judge answers none of the questions.
        ConfigError: the question has no place for the class, or `partners` is below 1.

    Warns:
        PalateWarning: pairs the judge could not answer are left out, counted.
    """
    if "{label}" not in question:
        raise ConfigError("the question must say where the class goes: {label}")
    labels = checked_labels(y, len(X))
    missing = [name for name in np.unique(labels).tolist() if name not in label_text]
    if missing:
        raise DataError(f"no text for the label {missing[0]!r}", field="label_text",
                        remedy="say what to call it in a question")  # fmt: skip
    pairs = random_partners(labels, partners, seed)
    if not len(pairs):
        raise DataError("no two inputs have the same label", field="y", remedy="give more of each class")
    prompts = [question.replace("{label}", label_text[name]) for name in labels[pairs[:, 0]].tolist()]
    answers = judge.compare(prompts, [X[a] for a in pairs[:, 0]], [X[b] for b in pairs[:, 1]]).probability
    given = ~np.isnan(answers)
    if not given.any():
        raise DataError(f"the judge {judge.name!r} answered none of {len(pairs)} questions")
    if not given.all():
        warnings.warn(
            f"the judge {judge.name!r} could not answer {int((~given).sum())} of {len(pairs)} questions; "
            "those pairs are left out",
            PalateWarning,
            stacklevel=2,
        )
    codes = np.where(answers == 0.5, NONE, np.where(answers > 0.5, FIRST, SECOND))
    return LabelPreferences(pairs[given], codes[given])


class LabelJudge(Judge):
    """The preference heads of a classifier as a judge: which text is more of the class the prompt names.

    Args:
        classifier: fitted on texts.
        name: how it signs.
    """

    kind: ClassVar[str] = "model"
    native: ClassVar[frozenset[str]] = frozenset({"compare"})
    order_matters: ClassVar[bool] = False

    def __init__(self, classifier: PreferenceAugmentedClassifier, name: str = "label_judge") -> None:
        super().__init__(name)
        self.classifier = classifier

    def _compare(self, prompts: list[str], a: list[str], b: list[str], **options: Any) -> Comparison:
        if not prompts:
            return Comparison(np.empty(0))
        by_name = {str(value): value for value in self.classifier.classes_.tolist()}
        unknown = [prompt for prompt in prompts if prompt not in by_name]
        if unknown:
            raise DataError(
                f"the prompt {unknown[0][:60]!r} names no class ({len(unknown)} of {len(prompts)} prompts)",
                field="prompt", remedy=f"give one of: {', '.join(by_name)}",
            )  # fmt: skip
        return Comparison(self.classifier.prefer(a, b, [by_name[prompt] for prompt in prompts]))
