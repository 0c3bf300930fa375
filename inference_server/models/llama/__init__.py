"""Our own forward pass for the Llama family: Llama, Mistral, Qwen2, Qwen3 are one block with flags."""
