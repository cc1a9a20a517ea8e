"""Quantities are compared as the API server does.

Lost if this fails: a pod template that the API server refuses after all nodes were changed, or one that it takes is refused."""

import pytest

from clusterkit import pod
from clusterkit.quantity import amount
from nodekit.errors import NodeError


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("250m", "1"), ("1M", "1Mi"), ("999Mi", "1Gi"), ("1.5Gi", "2Gi"), ("1e3", "1Ki"), ("1E3", "1E"), ("0", "1n"),
        ("0.5", "501m"), (".5Gi", "1.Gi"), ("+1", "2"), ("900P", "1Ei"),
    ],
)  # fmt: skip
def test_amounts_are_in_order(smaller: str, larger: str) -> None:
    assert amount("memory", smaller) < amount("memory", larger)


@pytest.mark.parametrize("text", ["", "2GB", "2 Gi", "Gi", "-1", "1KI", "1K", "0x10", "1e", "٢Gi", "1e1000", "nan"])
def test_text_that_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(NodeError, match=r"^Key memory is ") as caught:
        amount("memory", text)
    assert caught.value.code == "bad-input"


@pytest.mark.parametrize("text", ["512m", "2000m", "0.5", "1n", "100u"])
def test_memory_in_parts_of_a_byte_is_refused_where_the_api_server_only_warns(text: str) -> None:
    for resources in (("1", text, "2Gi"), ("1", "0", text)):
        with pytest.raises(NodeError, match=rf"^Key memory(Limit)? is '{text}', which counts parts of a byte") as caught:
            pod.check_resources(*resources)
        assert caught.value.code == "bad-input"
    pod.check_resources("512m", "0.5Gi", "1.1Gi")


def test_request_above_its_limit_is_refused_and_one_up_to_it_is_not() -> None:
    pod.check_resources("1", "2048Mi", "2Gi")
    assert amount("memory", 512) == 512, "a program may hand over a number"
    with pytest.raises(NodeError, match="memory is 4Gi, which is more than memoryLimit, 2Gi"):
        pod.check_resources("1", "4Gi", "2Gi")
