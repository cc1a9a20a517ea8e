"""Serves the signed apt repository and the Kata archive to local nodes, over HTTP on loopback."""

import json
from pathlib import Path
from typing import Optional, TypedDict

import pulumi

from components.arguments import checked
from components.children import child_options
from components.local.command import local_command, start_of
from local.boot import BOOT_VARIABLE, site_boot


class LocalSiteArgs(TypedDict):
    """What the site needs."""

    directory: pulumi.Input[str]
    """Folder of its process record and log; removed when the site is destroyed."""


class LocalSite(pulumi.ComponentResource):
    """Serves the packages and the archive to local machines, which see this machine as 10.0.2.2."""

    repository_address: pulumi.Output[str]
    """Address of the apt repository, as local machines see it."""
    repository_fingerprint: pulumi.Output[str]
    """Fingerprint of the key that signs it."""
    archive_address: pulumi.Output[str]
    """Address of the release-shaped Kata archive."""
    archive_sha256: pulumi.Output[str]
    """Its sha256."""

    def __init__(self, name: str, args: LocalSiteArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, LocalSiteArgs, name, args)
        super().__init__("kata-nodes:index:LocalSite", name, None, opts)
        spec = {"directory": args["directory"]}
        start: pulumi.Output[str] = pulumi.Output.from_input(args["directory"]).apply(
            lambda directory: start_of(f"The package site ({directory})", site_boot(Path(directory)))
        )
        site = local_command(f"{name}-server", "local.site", spec, child_options(self, opts), {BOOT_VARIABLE: start})
        served = pulumi.Output.unsecret(site.stdout).apply(json.loads)
        self.repository_address = served.apply(lambda site: str(site["repository"]))
        self.repository_fingerprint = served.apply(lambda site: str(site["fingerprint"]))
        self.archive_address = served.apply(lambda site: str(site["archiveUrl"]))
        self.archive_sha256 = served.apply(lambda site: str(site["archiveSha256"]))
        self.register_outputs(
            {
                "repositoryAddress": self.repository_address,
                "repositoryFingerprint": self.repository_fingerprint,
                "archiveAddress": self.archive_address,
                "archiveSha256": self.archive_sha256,
            }
        )
