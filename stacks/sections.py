"""What every section of the stack's configuration is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

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
        populate_by_name=True,
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
    )


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
