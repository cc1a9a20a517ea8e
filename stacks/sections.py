"""What every section of the stack's configuration is made of."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema

from clusterkit import images
from nodekit.errors import NodeError
from nodekit.rules import node_state


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


FORMS: dict[str, str] = {}
"""Pattern of a text -> what is allowed, in words."""


def form(pattern: str, words: str, min_length: int | None = None) -> Any:
    """In `Annotated[str, form(pattern, words)]`: text of a pattern, which an editor reads; a person reads `words` after "Use"."""
    if FORMS.setdefault(pattern, words) != words:
        raise ValueError(f"the pattern {pattern} has other words already")
    return Field(pattern=pattern, min_length=min_length)


Sha256 = Annotated[str, form(r"^[0-9a-f]{64}$", "the 64 hexadecimal digits that sha256sum prints")]
Name = Annotated[
    str,
    form(r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$", "small letters, digits and hyphens, at most 42, and no hyphen at either end"),
]
ProofSeconds = Annotated[int, Field(ge=node_state.LEAST_TIMEOUT_SECONDS, le=node_state.MOST_TIMEOUT_SECONDS)]


def image_can_be_pulled(image: str) -> str:
    """Refuse what no node could pull; the rule is the components' own."""
    try:
        return images.check("image", image)
    except NodeError as error:
        raise NodeErrorValue(error) from None


IMAGE_FOR_EDITORS = {"minLength": 1, "pattern": r"^[^\s-][^\s]*$"}
ImageName = Annotated[str, Field(json_schema_extra=IMAGE_FOR_EDITORS), AfterValidator(image_can_be_pulled)]
