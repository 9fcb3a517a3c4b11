"""Waves that run over a developing retina: simulated sheets of cells, and what networks learn from."""
