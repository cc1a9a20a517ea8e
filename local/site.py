"""Serves the package repository and the Kata archive of the local image to a node, over HTTP on the loopback address.

python3 -m local.site up|down     (settings as JSON on standard input)
"""

import http.client
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from local import parts, process
from local.boot import ADDRESS, BOOT_VARIABLE, named, site_boot
from local.machine import GATEWAY
from nodekit.errors import NodeError
from nodekit.host.reading import MAX_OWN, read

NAMES = ("process.json", "place.json", "site.log")
START_SECONDS = 15


def described(image: Mapping[str, object], port: int) -> dict[str, object]:
    """The addresses under which a node reaches what `image` (the document beside the site) holds."""
    archive = image["archive"]
    if not isinstance(archive, dict):
        raise NodeError("local-image-missing", "image.json names no archive")
    address = f"http://{GATEWAY}:{port}"
    return {
        "port": port,
        "address": address,
        "repository": f"{address}/debian",
        "fingerprint": image["fingerprint"],
        "archiveUrl": f"{address}/{archive['file']}",
        "archiveSha256": archive["sha256"],
    }


def up(request: dict[str, object]) -> dict[str, object]:
    """Serve the folder `site`: by the server that does so already, or by a new one on the port it had before.

    Keys: `directory` (private folder for the server's records), `site`. Raises NodeError; an `up` that fails or
    is interrupted ends the server.
    """
    request = parts.completed(request, {"site": "site"})
    directory, site = process.path_field(request, "directory"), process.path_field(request, "site")
    try:
        image = json.loads(read(site.parent / "image.json", MAX_OWN))
    except (OSError, ValueError) as error:
        raise NodeError("local-image-missing", f"{site} belongs to no built image") from error
    record, place = directory / "process.json", directory / "place.json"
    with process.owned(directory):
        try:
            known = json.loads(read(place, MAX_OWN))
        except (FileNotFoundError, ValueError):
            known = {}
        name = os.environ.get(BOOT_VARIABLE) or site_boot(directory).name
        if process.alive(record) and known.get("site") == str(site):
            named(directory, name)
            return described(image, known["port"])
        clear(directory)
        try:
            port = process.free_port(known.get("port"))
            process.write(place, json.dumps({"port": port, "site": str(site)}))
            server = [sys.executable, "-m", "http.server", str(port), "--bind", ADDRESS, "--directory", str(site)]
            process.spawn(server, record, directory / "site.log")
            wait(record, port, directory / "site.log")
            named(directory, name)
        except BaseException:
            clear(directory)
            directory.rmdir()
            raise
        return described(image, port)


def wait(record: Path, port: int, log: Path) -> None:
    """Return once the server serves the repository's key. Raises NodeError when it ended or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.alive(record):
        connection = http.client.HTTPConnection(ADDRESS, port, timeout=5)
        try:
            connection.request("HEAD", "/debian/gpg")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise NodeError("local-site-not-up", f"the package site did not start: {process.tail(log, 3)}")


def clear(directory: Path) -> None:
    """End the server and empty its folder."""
    process.stop(directory / "process.json")
    process.empty(directory, NAMES)


def down(request: dict[str, object]) -> dict[str, object]:
    """Stop serving and remove the records; nothing to stop is not an error."""
    return process.removed(request, clear)


if __name__ == "__main__":
    sys.exit(process.serve_verbs({"up": up, "down": down}, "local.site"))
