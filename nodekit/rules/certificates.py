"""Why a site's certificate is not trusted, for the remedy of a download that failed."""

import re

TIME, AUTHORITY = "certificate-time", "certificate-authority"
"""Cases of a failed download: the certificate is not of now, or nobody here vouches for it."""
_CODES = {9: TIME, 10: TIME, 18: AUTHORITY, 19: AUTHORITY, 20: AUTHORITY, 21: AUTHORITY}
"""Of OpenSSL, in an error of Python's (`X509_V_ERR_*`)."""
_WORDS = {
    TIME: r"(not yet valid|expired) certificate|certificate (is not yet valid|has expired)",
    AUTHORITY: r"issuer is unknown|No system certificates available|local issuer certificate|self-signed certificate",
}
"""Of GnuTLS and OpenSSL, in what apt prints."""


def case(error: Exception) -> str:
    """The case of a download by Python that failed; empty for one that has another reason."""
    return _CODES.get(getattr(getattr(error, "reason", error), "verify_code", 0), "")


def case_of_words(text: str) -> str:
    """The same of what apt printed."""
    return next((name for name, words in _WORDS.items() if re.search(words, text)), "")
