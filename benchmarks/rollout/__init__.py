"""Upgrades of a service under load, on a real cluster: what clients notice of them."""
