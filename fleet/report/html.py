"""A report as one HTML page that loads nothing: its style and pictures are in it, and it has no script.

The templates escape whatever they show. A policy in the page forbids all but that one style, should anything ever slip through.
"""

import base64
import hashlib
from functools import cache

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from fleet.report import view
from fleet.report.document import Fleet, Report
from nodekit.scripts import script

PACKAGE = "fleet.report"
TEMPLATES = ("page.html", "stack.html", "fleet.html", "flow.html")


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=DictLoader({name: script(name, PACKAGE) for name in TEMPLATES}),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["view"] = view
    return environment


def _page(template: str, **values: object) -> str:
    style = script("page.css", PACKAGE)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return _environment().get_template(template).render(style=Markup(style), policy=policy, **values) + "\n"


def report(document: Report) -> str:
    """The page of one stack."""
    return _page("stack.html", report=document, written=document.written, stages=list(view.flow(document)))


def fleet(document: Fleet) -> str:
    """The page of many stacks."""
    return _page("fleet.html", fleet=document, written=document.written)
