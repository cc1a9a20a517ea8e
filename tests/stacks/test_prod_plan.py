"""The plan of stack `prod` is the reviewed one. Lost if this failed: the reviewer's look at what a change does to AWS."""

from tests.stacks import prod_plan


def test_plan_of_prod_is_the_reviewed_one() -> None:
    assert prod_plan.plan() == prod_plan.FILE.read_text(encoding="utf-8"), "look at the difference, then: make generate"


def test_reviewed_plan_holds_no_secret() -> None:
    text = prod_plan.FILE.read_text(encoding="utf-8")
    assert "PRIVATE" not in text and "client-key" not in text
    assert text.count("connection: (secret)") == text.count("type: command:remote:")
