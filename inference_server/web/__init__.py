"""The public API: routes, formats, authentication and limits. Torch-free."""
