"""Networks stored as files."""
