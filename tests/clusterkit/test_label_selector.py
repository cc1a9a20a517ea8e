"""Label selectors: what `kubectl get nodes --selector` takes passes, and nothing else, before anything is made.

Lost if these fail: ten minutes of an `up` that waits for a controller which the API server answers nothing but 400.
"""

import pytest

from clusterkit import label_selector
from nodekit.errors import NodeError


@pytest.mark.parametrize(
    "selector",
    [
        "katacontainers.io/kata-runtime=true",
        "node-role.kubernetes.io/kata-oc=",
        "a=b,c!=d",
        " a == b , !c , d ",
        "tier in (x, y),zone notin (z)",
        "a in (,b)",
        "size>3,size<10",
        "a" * 63 + "=" + "b" * 63,
        *("a", "!a", "a=", "a!=b", "x.example.org/a_b.c=D-1_e", "in=notin", " a=b ", "a in (b),c"),
    ],
)
def test_selector_that_an_api_server_takes_passes(selector: str) -> None:
    assert label_selector.check(selector) == selector


@pytest.mark.parametrize(
    "selector",
    [
        "", "   ", ",", "a=b,", ",a=b", "sandbox:kata", "a=b c=d", "a=b;c=d", "a in (b", "a in ()", "a in b", "{a: b}", "a=b=c",
        "a='b'", "-a=b", "a=b/c", "A.io/x/y=z", "Upper.io/x=y", "a" * 64 + "=b", "a=" + "b" * 64, "a>b", "a=b\0", "a=b," * 5000,
        "a b", "A.b/c/d", "a in (x", "a=é",
    ],
)  # fmt: skip
def test_selector_that_no_api_server_takes_is_refused(selector: str) -> None:
    with pytest.raises(NodeError, match="No API server can parse") as caught:
        label_selector.check(selector)
    assert caught.value.code == "bad-input" and len(caught.value.message) < 300
