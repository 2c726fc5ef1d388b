"""A network as files."""
