"""An account in memory (moto), with images of its own, and a way to have single calls answered otherwise."""

import functools
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# moto reads this when it is imported, and ships no Ubuntu 24.04.
os.environ["MOTO_AMIS_PATH"] = str(Path(__file__).parent / "images.json")

import boto3
import botocore.endpoint
import botocore.loaders
import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws
from moto.servicequotas.responses import ServiceQuotasResponse

from aws import preflight as aws_preflight

# Each session reads the descriptions of its services again, which takes 0.25 s for EC2; nothing changes what was read.
_read = functools.cache(functools.partial(botocore.loaders.JSONFileLoader.load_file, botocore.loaders.JSONFileLoader()))
botocore.loaders.JSONFileLoader.load_file = lambda self, path: _read(path)  # type: ignore[method-assign]


class Body(io.BytesIO):
    """Of an HTTP answer, as botocore reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        """All of it."""
        yield self.read()


@dataclass
class Account:
    """Answers in place of moto's: operation -> answers, of which the last one stays."""

    answers: dict[str, list[tuple[int, str] | Exception | None]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def say(self, operation: str, *answers: tuple[int, str] | Exception | None) -> None:
        """Give the next calls these answers; None stands for moto's own answer."""
        self.answers[operation] = list(answers)

    def refuse(self, operation: str, code: str, status: int = 403) -> None:
        """Have every call of an operation of EC2 refused."""
        self.say(operation, ec2_error(code, status))

    def quota(self, vcpus: float) -> None:
        """Set the quota of every kind; moto has none for EC2."""
        self.say("GetServiceQuota", (200, json.dumps({"Quota": {"Value": vcpus}})))

    def hook(self, event_name: str, request: Any, **_: Any) -> AWSResponse | None:
        """Answer, or leave it to moto."""
        operation = event_name.rsplit(".", 1)[1]
        self.calls.append(operation)
        answers = self.answers.get(operation, [None])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            return None
        return AWSResponse(request.url, answer[0], {"content-type": "text/xml"}, Body(answer[1].encode()))  # type: ignore[arg-type]


def ec2_error(code: str, status: int) -> tuple[int, str]:
    """An error in the form of EC2."""
    return status, f"<Response><Errors><Error><Code>{code}</Code><Message>said by EC2</Message></Error></Errors></Response>"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An empty account whose quota is large; waits between tries are not waited."""
    for key, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    fake_account = Account()
    fake_account.quota(10000)

    class Session(boto3.Session):
        def client(self, *argv: Any, **options: Any) -> Any:  # type: ignore[override]
            client: Any = super().client(*argv, **options)  # type: ignore[call-overload]
            client.meta.events.register_first("before-send", fake_account.hook)
            return client

    monkeypatch.setattr(aws_preflight.boto3, "Session", Session)
    monkeypatch.setattr(botocore.endpoint.time, "sleep", lambda seconds: None)
    # moto lacks this one, and is asked too where the answer is ours.
    monkeypatch.setattr(ServiceQuotasResponse, "get_aws_default_service_quota", lambda self: "{}", raising=False)
    with mock_aws():
        yield fake_account
