"""The demo: an operator, a model hub and one LLMService on a real Kubernetes, told as a story."""
