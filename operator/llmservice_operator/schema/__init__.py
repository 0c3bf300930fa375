"""The LLMService API in pydantic: the one place where its fields, defaults, rules and descriptions are written."""

from llmservice_operator.schema.llmservice import InvalidLLMService, LLMService, Metadata, parse
from llmservice_operator.schema.spec import Spec

__all__ = ["InvalidLLMService", "LLMService", "Metadata", "Spec", "parse"]
