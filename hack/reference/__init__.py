"""Writes the reference pages of docs/ from the code: the API from the CRD, the conditions from their enumeration."""
