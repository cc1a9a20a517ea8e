"""A label selector that the API server would refuse is refused before nodes are touched.

Lost if this fails: nodes are changed for half an hour, and then nothing is proven because of a colon."""

import pytest

from clusterkit.label_selector import checked
from nodekit.errors import NodeError


@pytest.mark.parametrize(
    "selector",
    [
        "katacontainers.io/kata-runtime=true", "a", "!a", "a==b", "a!=b", "a=", "a = b , c", "a in (x, y)", "a notin (x)",
        "a in ()", "a>3", "x.example.org/a_b.c=D-1_e", "node-role.kubernetes.io/worker", "in=notin", " a=b ", "a in (b),c",
    ],
)  # fmt: skip
def test_selector_of_every_kind_is_taken(selector: str) -> None:
    assert checked(selector) == selector


@pytest.mark.parametrize(
    "selector",
    [
        "", " ", "a:b", "a b", "a=b c=d", "a=b,", ",", "-a=b", "a=b/c", "A.b/c/d", "a in x", "a in (x", "a=" + "b" * 64, "a=é",
        "a=b\n\0",
    ],
)  # fmt: skip
def test_text_that_selects_nothing_is_refused(selector: str) -> None:
    with pytest.raises(NodeError, match="is not a label selector") as caught:
        checked(selector)
    assert caught.value.code == "bad-input" and "kubectl get nodes --selector" in caught.value.remedy
