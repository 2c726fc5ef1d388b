"""Floating-point arithmetic that proofs can rely on."""
