"""Scores, baselines and reports from prediction files; needs no GPU and no model."""
