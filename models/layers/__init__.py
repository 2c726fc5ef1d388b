"""The layers of which blocks are made."""
