"""Measuring a model: problems that are graded, continuations that a judge compares, documents held out, compute."""
