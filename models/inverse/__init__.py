"""Fixed-point iteration."""
