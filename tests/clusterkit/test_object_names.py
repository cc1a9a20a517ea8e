"""Names of Kubernetes objects: what an API server takes passes, and nothing else, before anything is made.

Lost if these fail: an `up` that ends at its last objects because a program named a component myProof, and a guard of a namespace
that cannot exist.
"""

import pytest

from clusterkit import guard, object_names
from nodekit.errors import NodeError


@pytest.mark.parametrize("name", ["a", "proof", "my-proof", "0-a", "a.b-c.d", "a" * 230])
def test_name_that_an_api_server_takes_passes(name: str) -> None:
    assert object_names.check("template", name) == name
    object_names.check_component("SandboxGuard", name)


WRONG = ["", "myProof", "my_proof", "-a", "a-", ".a", "a.", "a..b", "a.-b", "a b", "a/b", "a\n", "prüfung", "٣", "a\x1b[31m"]


@pytest.mark.parametrize("name", [*WRONG, "a" * 254])
def test_name_that_no_api_server_takes_is_refused(name: str) -> None:
    for check in (object_names.check, object_names.check_component):
        with pytest.raises(NodeError) as caught:
            check("KataProof", name)
        assert caught.value.code == "bad-input" and caught.value.sentence().isprintable() and len(caught.value.message) < 400


@pytest.mark.parametrize("name", [*WRONG, "a.b", "a" * 64])
def test_namespace_and_handler_have_no_dots_and_fit_a_label(name: str) -> None:
    with pytest.raises(NodeError, match=r"^Key namespace is not a name that Kubernetes takes$"):
        object_names.check_label("namespace", name)
    assert object_names.check_label("namespace", "a" * 63)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("myProof", "Use a name such as my-proof"),
        ("my_proof of Rack-7", "Use a name such as my-proof-of-rack-7"),
        ("HTTPProof", "Use a name such as httpproof"),
        ("証明", "Use a name such as kata"),
        ("p" * 80, f"Use a name such as {'p' * 63}"),
        (f"{'p' * 62}-q", f"Use a name such as {'p' * 62}"),
    ],
)
def test_refusal_names_one_that_fits(name: str, remedy: str) -> None:
    with pytest.raises(NodeError) as caught:
        object_names.check_component("KataProof", name, object_names.MOST_OF_LABEL)
    assert caught.value.remedy == remedy
    object_names.check_component("KataProof", remedy.rpartition(" ")[2], object_names.MOST_OF_LABEL)


def test_guard_of_a_namespace_that_cannot_exist_is_refused() -> None:
    with pytest.raises(NodeError, match="Key namespaces is not a name"):
        guard.binding("policy", ["sandboxes", "Sandboxes"])
