"""Networks, heads and their files."""
