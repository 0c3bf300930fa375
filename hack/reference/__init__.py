"""Writes what is generated from the code: the CRD, and the reference pages of docs/."""
