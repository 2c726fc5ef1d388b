"""Residual blocks, one file for each kind."""
