"""Models as the engine runs them: read from a checkpoint, computed on KV memory in slots; `model.Model` is the line."""
