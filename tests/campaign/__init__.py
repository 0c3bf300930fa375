"""Proof by many plays: the operator against a real API server, with deaths, old views, lost events and errors."""
