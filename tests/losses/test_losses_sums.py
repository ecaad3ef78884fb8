"""Sums of losses by name, and the penalties that go into them."""

from __future__ import annotations

import pytest
import torch

from palate import losses
from palate.errors import ConfigError
from palate.losses.sums import terms_of

SCORES = torch.tensor([[1.5, 0.5], [-0.2, 0.9]], dtype=torch.float64)
TARGETS = torch.tensor([[1.0, 0.0], [1.0, 0.0]])


def test_centering_is_the_squared_sum_of_a_pair_and_magnitude_the_mean_square():
    centering, magnitude = losses.get("centering"), losses.get("magnitude")
    pairs = ((SCORES[:, 0] + SCORES[:, 1]) ** 2).mean()
    assert centering(SCORES, TARGETS).item() == pytest.approx(pairs.item())
    assert magnitude(SCORES, TARGETS).item() == pytest.approx((SCORES**2).mean().item())
    centred = torch.tensor([[1.0, 2.0, -3.0]])
    assert centering(centred, torch.ones(1, 3)).item() == pytest.approx(0, abs=1e-12)
    assert magnitude(centred, torch.ones(1, 3)).item() == pytest.approx(14 / 3)


@pytest.mark.parametrize("text", ["bradley_terry + 0.01 * centering", "bradley_terry+1e-2*centering"])
def test_a_sum_is_its_weighted_terms(text):
    apart = losses.get("bradley_terry")(SCORES, TARGETS) + 0.01 * losses.get("centering")(SCORES, TARGETS)
    loss = losses.get(text)
    assert loss(SCORES, TARGETS).item() == pytest.approx(apart.item())
    assert loss.name == "bradley_terry + 0.01 * centering"
    scored = losses.Scored(SCORES)
    assert loss.of(scored, {"targets": TARGETS}).item() == pytest.approx(apart.item())
    assert loss.watched["loss_centering"].item() == losses.get("centering")(SCORES, TARGETS).item()


def test_terms_take_their_own_parameters():
    loss = losses.get("bradley_terry + 2*hinge", bradley_terry={"scale": 0.5}, hinge={"ties": "half"})
    apart = losses.get("bradley_terry", scale=0.5)(SCORES, TARGETS) + 2 * losses.get("hinge")(SCORES, TARGETS)
    assert loss(SCORES, TARGETS).item() == pytest.approx(apart.item())
    assert loss.params == {"bradley_terry": {"scale": 0.5}, "hinge": {"ties": "half"}}


def test_what_terms_read_reaches_them():
    margins = torch.tensor([[[0.0, 2.0], [-2.0, 0.0]]], dtype=torch.float64)
    batch = {"targets": TARGETS[:1], "offset": torch.tensor([0.5])}
    scored = losses.Scored(SCORES[:1], margins=margins)
    alone = losses.get("bradley_terry").of(scored, batch) + losses.get("magnitude").of(scored, batch)
    assert losses.get("bradley_terry + magnitude").of(scored, batch).item() == pytest.approx(alone.item())
    assert alone.item() != losses.get("bradley_terry + magnitude")(SCORES[:1], TARGETS[:1]).item()


def test_parameters_and_state_of_terms_are_those_of_the_sum():
    loss = losses.get("davidson + 0.5*bco", davidson={"learn": True})
    assert len(list(loss.parameters())) == 1
    before = loss(SCORES, TARGETS).item()
    other = losses.get("davidson + 0.5*bco", davidson={"learn": True})
    other.load_state_dict(loss.state_dict())
    assert other.terms[1].delta == loss.terms[1].delta != 0
    loss.eval()
    loss(SCORES, TARGETS)
    assert other.terms[1].delta == loss.terms[1].delta
    assert before == pytest.approx(losses.get("davidson + 0.5*bco")(SCORES, TARGETS).item())


@pytest.mark.parametrize(
    ("text", "pairwise", "log_odds", "anchored", "min_items"),
    [
        ("bradley_terry + 0.01*centering", True, True, True, 2),
        ("0.5*bradley_terry + 0.5*robust", True, True, False, 2),
        ("bradley_terry + mse", False, False, True, 2),
        ("listmle + magnitude", False, True, True, 2),
        ("thurstone + magnitude", True, False, True, 2),
        ("centering + magnitude", False, False, True, 1),
        ("2*listmle", False, True, False, 2),
    ],
)
def test_a_sum_answers_for_its_terms(text, pairwise, log_odds, anchored, min_items):
    loss = losses.get(text)
    assert (loss.pairwise, loss.log_odds) == (pairwise, log_odds)
    assert (loss.anchored, loss.min_items) == (anchored, min_items)


def test_the_needs_of_one_term_are_the_needs_of_the_sum():
    loss = losses.get("bradley_terry + 0.1*simcse")
    assert loss.views == 2
    assert loss.pairwise
    assert losses.get("hinge + davidson").ties == "half"
    assert losses.get("scaled_bradley_terry + magnitude").graded
    assert losses.get("two_hot + 0.1*bradley_terry").heads == ("bins",)


def test_weights_are_read_as_written():
    assert terms_of("a + .5*b+ 2.*c +1e+3*d + 0*e") == [
        (1.0, "a"),
        (0.5, "b"),
        (2.0, "c"),
        (1e3, "d"),
        (0.0, "e"),
    ]


@pytest.mark.parametrize(
    ("text", "params", "message"),
    [
        ("bradley_terry +", {}, "cannot be read at 'its end'; write a sum like"),
        ("bradley_terry - centering + mse", {}, "cannot be read at '- centering . mse'"),
        ("bradley_terry + -1*centering", {}, "cannot be read at '-1.centering'"),
        ("bradley_terry + centering*2", {}, r"cannot be read at '\*2'"),
        ("+ mse", {}, r"cannot be read at '\+ mse'"),
        ("1e999*mse + hinge", {}, "the weight of 'mse' in the loss .* is not finite"),
        ("mse + 2*mse", {}, "has the term 'mse' twice; add up its weights"),
        ("mse + centring", {}, "unknown loss 'centring'; did you mean 'centering'"),
        ("mse + hinge", {"scale": 2.0}, r"per term, like {'mse': {...}}; got 'scale', which is none of"),
        ("mse + hinge", {"hinge": 2.0}, "got 'hinge' = 2.0"),
        ("mse + hinge", {"hinge": {"tau": 2.0}}, "unknown parameter of the loss 'hinge': 'tau'"),
        ("two_hot + gaussian", {}, "no head suits all terms .* two_hot reads bins; gaussian reads gaussian"),
    ],
)
def test_a_sum_that_makes_no_sense_is_refused(text, params, message):
    with pytest.raises(ConfigError, match=message):
        losses.get(text, **params)
