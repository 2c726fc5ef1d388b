"""Proofs of a whole network."""
