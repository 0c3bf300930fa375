"""A thousand LLMServices on a real control plane whose nodes kwok plays: how long, how much, how quiet."""
