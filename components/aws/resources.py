"""The AWS plugin for a region, with no Python package of AWS (docs/adr/0029)."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import pulumi

from components.plugin_resource import PLUGINS


def account(region: str, skipped: Sequence[str] = (), credentials: Optional[Mapping[str, str]] = None) -> Any:
    """The AWS plugin for a region. `skipped` are checks that it leaves out, `credentials` stand for those of this machine."""
    checks = {"skipCredentialsValidation": "false", "skipRegionValidation": "true"} | dict.fromkeys(skipped, "true")
    secret = {key: pulumi.Output.secret(value) for key, value in (credentials or {}).items()}
    inputs = {"region": region, **checks, **secret}
    options = pulumi.ResourceOptions(version=PLUGINS["aws"], additional_secret_outputs=["accessKey", "secretKey", "token"])
    return pulumi.ProviderResource("aws", "aws-account", inputs, options)
