"""The LLMService operator: reconciles LLMService resources into the objects that serve a language model."""
