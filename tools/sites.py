"""Where set-up downloads from: the vendors' sites, or the mirror that stands for all of them. docs/guides/air-gapped.md."""

import hashlib
import http.client
import os
import platform
import re
import ssl
import urllib.request
from urllib.parse import quote, urlsplit

from tools.cache import SetupError

MIRROR = "KATA_NODES_MIRROR"
DOWNLOAD_LIMIT = 400 << 20
"""Most bytes that are read of one file."""
TRIES = 3
"""How often a file is asked for whose connection ends before it is whole, as a proxy or a busy site does now and then."""
PLUGINS = "https://get.pulumi.com/releases/plugins"
OVERRIDES = "PULUMI_PLUGIN_DOWNLOAD_URL_OVERRIDES"
"""The engine's own setting: regular expressions over a plugin's source and the addresses that take their place."""
UNTRUSTED = (
    "this Python trusts no authority that signed it: behind a proxy that opens TLS, set SSL_CERT_FILE to a file with its "
    "authority; for Python from python.org on macOS, run its Install Certificates.command"
)
"""Why a certificate is refused that a browser on the same machine takes."""
_WITHOUT_AUTHORITY = (18, 19, 20, 21)
"""OpenSSL's errors for that (x509_vfy.h, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT and those after it); others are the site's."""
_OFFICIAL_PLUGINS = r"^(github://api\.github\.com/pulumi/|https://get\.pulumi\.com/)"
"""The sources of Pulumi's own plugins, as the engine spells them."""
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_SYSTEMS = {"Linux": "linux", "Darwin": "darwin"}


def mirror() -> str:
    """The mirror's address without a slash at its end, or an empty string; raises SetupError when it cannot be used."""
    address = os.environ.get(MIRROR, "").rstrip("/")
    if "@" in address.rpartition("://")[2].partition("/")[0]:
        raise SetupError(
            f"{MIRROR} holds a user or a password, which downloads cannot send. Set it to an http or https address without them, "
            "such as https://mirror.example.org/files."
        )
    try:
        parsed = urlsplit(address)
        usable = parsed.scheme in ("http", "https") and bool(parsed.netloc) and not re.search(r"[\s,=?#$]", address)
    except ValueError:  # such as a bracket without its end
        usable = False
    if address and not usable:
        raise SetupError(f"{MIRROR} is {address!r}. Set it to an http or https address such as https://mirror.example.org/files.")
    scheme, mark, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host + slash + re.sub(r"[^\x00-\x7f]+", _percent_encoded, path)


def _percent_encoded(letters: re.Match[str]) -> str:
    """Letters outside of ASCII as an address has them; those of an environment that is not in UTF-8 are single bytes."""
    return quote(letters[0], errors="surrogateescape")


def address(url: str) -> str:
    """Where the file at `url` of a vendor's site is downloaded from: `MIRROR/<host>/<path>` where there is a mirror."""
    site = mirror()
    return f"{site}/{url.partition('://')[2]}" if site else url


def plugin_overrides() -> str:
    """The engine's setting that redirects its downloads of plugins to the mirror; what a person has set comes first."""
    own = os.environ.get(OVERRIDES, "")
    site = mirror()
    led = f"{_OFFICIAL_PLUGINS}={address(PLUGINS)}" if site else ""
    return ",".join(filter(None, (own, led if led not in own.split(",") else "")))


def this_platform() -> dict[str, str]:
    """The vendors' names for this machine's system and processor; raises SetupError on one that has no archives."""
    system, machine = _SYSTEMS.get(platform.system()), _MACHINES.get(platform.machine())
    if not system or not machine:
        raise SetupError(
            f"There are no official archives for {platform.system()} on {platform.machine()}. "
            "Use Linux or macOS on x86-64 or 64-bit ARM."
        )
    return {"os": system, "amd64": machine, "x64": machine.replace("amd64", "x64")}


def fetch(url: str) -> bytes:
    """The file at `url` of a vendor's site; raises OSError when it is not available, SetupError when it is not whole."""
    source = address(url)
    left = TRIES
    while True:
        left -= 1
        try:
            return _whole(source)
        except http.client.IncompleteRead as error:
            if not left:
                of = f" of {len(error.partial) + error.expected}" if error.expected else ""
                raise SetupError(f"{source} ended after {len(error.partial)}{of} bytes. Run the command again.") from None
        except (http.client.HTTPException, OSError, UnicodeError) as error:  # UnicodeError: a host's name that none can be
            cause = getattr(error, "reason", error)
            if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _WITHOUT_AUTHORITY:
                raise OSError(f"{source}: its certificate is refused ({cause.verify_message}); {UNTRUSTED}") from error
            if not left or not isinstance(cause, ConnectionResetError):
                reason = f"{source}: {error}" if isinstance(error, OSError) else f"{type(error).__name__} while reading {source}"
                raise OSError(reason) from error


def _whole(source: str) -> bytes:
    """What is at an address; raises IncompleteRead where the connection ends before it does."""
    with urllib.request.urlopen(source, timeout=20) as answer:
        data: bytes = answer.read(DOWNLOAD_LIMIT + 1)
        length = answer.headers.get("Content-Length")
    if len(data) > DOWNLOAD_LIMIT:
        raise SetupError(f"{source} is larger than {DOWNLOAD_LIMIT >> 20} MiB, which no part is. Check the site or its mirror.")
    if length is not None and length.isdecimal() and int(length) > len(data):
        raise http.client.IncompleteRead(data, int(length) - len(data))
    return data


def summed(data: bytes, expected: str, source: str, by: str) -> bytes:
    """`data`, whose sha256 is the expected one; raises SetupError."""
    seen = hashlib.sha256(data).hexdigest()
    if seen != expected:
        raise SetupError(
            f"{source} has sha256 {seen}, and {by} says {expected}. Run the command again; where that does not help, the "
            "mirror or a proxy holds a damaged copy."
        )
    return data


def available(url: str) -> bool:
    """Whether the file at `url` of a vendor's site is there, within seconds."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address(url), method="HEAD"), timeout=10):
            return True
    except (OSError, http.client.HTTPException, UnicodeError):
        return False
