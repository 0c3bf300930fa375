"""Text in, token ids out, and back: tokenizers, chat templates, stop strings. Torch-free."""
