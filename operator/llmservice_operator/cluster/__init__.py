"""The door to the API server: nothing else in this package imports `kubernetes`."""
