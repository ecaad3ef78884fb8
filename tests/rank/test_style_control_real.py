"""Style control of real judgments, from the texts to the coefficients."""

from __future__ import annotations

import numpy as np
import polars as pl

from palate.data import PreferenceData
from palate.data.style import LMARENA, style_features
from palate.evaluate.length_controlled import alpaca_preference
from palate.rank.contextual import ContextualBradleyTerry


def test_a_language_model_as_judge_rewards_long_and_formatted_answers(shared_data):
    """GPT-4 Turbo's verdicts on 57 models against one baseline, 805 instructions."""
    folder = shared_data / "alpaca-eval"
    texts = pl.read_parquet(folder / "outputs.parquet")
    votes = (
        pl.read_parquet(folder / "annotations.parquet")
        .filter(
            pl.col("annotator") == "weighted_alpaca_eval_gpt4_turbo", pl.col("model") != pl.col("baseline")
        )
        .join(texts, on=["model", "prompt_id"])
        .join(texts.rename({"model": "baseline", "output": "reference"}), on=["baseline", "prompt_id"])
    )
    share = alpaca_preference(votes["preference"].to_numpy())
    data = PreferenceData.from_columns({
        "items": votes.select(pl.concat_list("baseline", "model")).to_series().to_arrow(),
        "responses": votes.select(pl.concat_list("reference", "output")).to_series().to_arrow(),
        "scores": np.stack([1 - share, share], axis=1),
        "prompt_id": votes["prompt_id"].cast(pl.String).to_arrow(),
    })  # fmt: skip
    assert len(data) == 45_875
    features = style_features(data)
    lengths = votes.select("baseline_length", "model_length").to_numpy()
    characters = style_features(data, ["characters"])["characters"]
    assert np.mean(characters == lengths) > 0.99
    fitted = ContextualBradleyTerry(features=features, l2=0.1, cluster="prompt").fit(data)
    found = fitted.coefficients_
    assert found["feature"].to_list() == list(LMARENA)
    assert (found["lower"] > 0).all()
    assert found["feature"][found["coefficient"].arg_max()] == "tokens"
