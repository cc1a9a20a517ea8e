"""The JSON Schema of the documents that `kata-nodes report` writes, from the classes that hold them."""

import json
from typing import Any

from pydantic import TypeAdapter

from fleet.report.document import Fleet, Report
from tools.generate.schema import Untitled, tidy

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def of_reports() -> dict[str, Any]:
    """The schema: a document is of one stack, or of many."""
    schema: dict[str, Any] = TypeAdapter(Report | Fleet).json_schema(schema_generator=Untitled)
    return {"$schema": DIALECT, "title": "A report of kata-nodes", **tidy(schema)}


def text() -> str:
    """Content of docs/reference/report.schema.json."""
    return json.dumps(of_reports(), indent=1) + "\n"
