"""Proven norms of linear maps and of blocks, and the rounding of both."""
