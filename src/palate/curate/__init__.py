"""Better judgments from those at hand: measure, filter, flip, weigh, pair, and ask again where it pays."""
