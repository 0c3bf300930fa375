"""Proof by many plays: the operator against a real API server, with deaths at every write."""
