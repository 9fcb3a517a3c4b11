"""Data sets with sample ids, content hashes and threat tables."""
