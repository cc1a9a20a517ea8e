"""Print the package's schema as the Pulumi Registry shows it: with the address of the repository that publishes it.

python3 -m tools.published_schema ADDRESS TAG    ADDRESS such as https://github.com/OWNER/NAME, which the release workflow knows

The schema in the repository names no address, so that a fork or a moved repository needs no change.
"""

import json
import re
import sys
from pathlib import Path

SCHEMA = Path(__file__).resolve().parent.parent / "components" / "schema.json"
LOGO = "docs/logo.svg"


def published(schema: dict[str, object], address: str, tag: str) -> dict[str, object]:
    """`schema` with what depends on the repository; the logo is the tag's own. Raises ValueError for any other address."""
    named = re.fullmatch(r"https://[\w.-]+/([\w.-]+)/[\w.-]+", address)
    if named is None:
        raise ValueError(f"{address!r} is not the address of a repository: give https://HOST/OWNER/NAME")
    return {
        **schema,
        "homepage": address,
        "repository": address,
        "publisher": named[1],
        "logoUrl": f"{address}/raw/{tag}/{LOGO}",
    }


def main(argv: list[str]) -> int:
    """Returns the exit status."""
    if len(argv) != 2:
        print((__doc__ or "").split("\n\n")[1], file=sys.stderr)
        return 2
    try:
        document = published(json.loads(SCHEMA.read_text(encoding="utf-8")), *argv)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
