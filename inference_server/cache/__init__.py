"""The warm-up: fills the cache volume with a model before any pod asks for an accelerator. Imports nothing heavy."""
