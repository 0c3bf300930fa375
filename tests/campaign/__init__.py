"""Proof by many plays: the operator against a real API server, with deaths, faults of the API, and changing specs."""
