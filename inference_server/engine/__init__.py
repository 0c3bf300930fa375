"""Everything behind the engine process's socket; only this package may import torch, and this file imports nothing."""
