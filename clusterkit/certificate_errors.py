"""Why an API server's certificate is not trusted, in the words of OpenSSL in our client and of Go in the Kubernetes plugin."""

import re

from nodekit.errors import NodeError

UNTRUSTED = re.compile(r"certificate verify failed|failed to verify certificate|x509: ")
_CASES = {
    "time": re.compile(r"certificate (has expired|is not yet valid|is expired)"),
    "name": re.compile(r"certificate is (not )?valid for|doesn't contain any IP SANs|legacy Common Name"),
}


def explained(text: str, about: str, otherwise: str = "") -> NodeError | None:
    """What the words of a failed connection mean; None where they are not of a certificate.

    `about` begins the message, and `otherwise` is the case where neither clock nor name is wrong, but the authority unknown.
    """
    if not UNTRUSTED.search(text):
        return None
    case = next((case for case, words in _CASES.items() if words.search(text)), otherwise)
    return NodeError("cluster-certificate-untrusted", about, case)
