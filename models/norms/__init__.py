"""Proven bounds of the norms of linear maps, of blocks, and of the rounding of both."""
