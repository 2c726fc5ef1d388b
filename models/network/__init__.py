"""The network, and what is proven of it."""
