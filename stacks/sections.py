"""What every section of the stack's configuration is made of."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema

from nodekit.errors import NodeError


class NodeErrorValue(ValueError):
    """Carries a rule's own refusal through pydantic."""

    def __init__(self, error: NodeError) -> None:
        super().__init__(error.sentence())


class Model(BaseModel):
    """Base of every section: unknown keys are refused, keys are camelCase, values are not coerced."""

    model_config = ConfigDict(
        extra="forbid",
        alias_generator=to_camel,
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
    )


class OneOf:
    """In `Annotated[str, OneOf(words)]`: one of the words that a rule knows, as `Literal` with those words."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Its validation, from which pydantic makes the JSON schema too."""
        return core_schema.literal_schema(list(self.words))


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
