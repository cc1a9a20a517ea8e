"""The HTTP proxy of apt, by which this program downloads too: often it is set there alone, as a node's only way out."""

import urllib.request

from nodekit.rules.text import printable


def opener(proxy: str | None) -> urllib.request.OpenerDirector:
    """What opens addresses by way of `proxy`; without one, those of the environment count, as they do for apt."""
    own = [urllib.request.ProxyHandler({"http": proxy, "https": proxy})] if proxy else []
    return urllib.request.build_opener(*own)


def named(proxy: str) -> str:
    """The proxy in a message: without what stands before its last @, any of which may be part of a password."""
    return f"apt's proxy {printable(proxy.rpartition('@')[2], 200)}"
