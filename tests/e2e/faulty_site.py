"""A site of packages and archives that fails on request: what it serves, and how, is changed while it runs.

Run as a program, in the network of the node that it serves: `python faulty_site.py FOLDER PORT`. It reads FOLDER/faults.json at
each request.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

YEAR = 365 * 86400.0
STALL_SECONDS = 600.0
LATE_SECONDS = 5.0


class Handler(SimpleHTTPRequestHandler):
    """Serves FOLDER/files, and spoils what faults.json names: a pattern of paths -> missing, late, stall, half or altered."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, directory=str(Path(sys.argv[1]) / "files"), **kwargs)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Serve one file."""
        folder = Path(sys.argv[1])
        faults = json.loads((folder / "faults.json").read_text())
        kind = next((kind for pattern, kind in faults.items() if re.search(pattern, self.path)), "")
        if not kind:
            super().do_GET()
            return
        self.close_connection = True
        if kind == "late":
            time.sleep(LATE_SECONDS)
        if kind == "missing":
            self.send_error(404)
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        if kind == "altered":  # in its middle, where an archive has content and not only a name
            content = content[: len(content) // 2] + b"ALTERED" + content[len(content) // 2 + 7 :]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if kind in ("half", "stall") else content)
        self.wfile.flush()
        if kind == "stall":
            time.sleep(STALL_SECONDS)


class FaultySite:
    """The site of a node, with a repository that is signed by a key of its own."""

    def __init__(self, folder: Path, original: Path, archive: str) -> None:
        """Serve `archive` and `debian` of the site `original`."""
        self.folder = folder
        self.files = folder / "files"
        self._suite = self.files / "debian/dists/trixie"
        self._suite.mkdir(parents=True)
        for name in ("pool", "stable"):
            (self._suite / name).symlink_to(original / "debian/dists/trixie" / name)
        (self.files / archive).symlink_to(original / archive)
        self.faults({})
        release = (original / "debian/dists/trixie/Release").read_text()
        now = time.time()

        def dated(date: float, until: float) -> str:
            fields = f"Date: {formatdate(date, usegmt=True)}\nValid-Until: {formatdate(until, usegmt=True)}"
            return re.sub(r"^Date: .*$", fields, release, flags=re.MULTILINE)

        good = dated(now - 3600, now + YEAR)
        with _key(now - 2 * YEAR) as key, _key(now - 2 * YEAR) as stranger:
            self.fingerprint = key.fingerprint
            (self.files / "debian/gpg").write_bytes(key.public)
            self._releases = {
                "good": key.signed(good, now),
                "of another key": stranger.signed(good, now),
                "with an expired signature": key.signed(good, now - YEAR, "--default-sig-expire", "30d"),
                "dated a year ahead": key.signed(dated(now + YEAR, now + 2 * YEAR), now),
                "valid until a year ago": key.signed(dated(now - YEAR - 86400, now - YEAR), now),
                "changed after it was signed": key.signed(good, now).replace(b"Origin: Docker", b"Origin: Dockex"),
            }
        self.release("good")

    def release(self, which: str) -> None:
        """Serve another InRelease."""
        (self._suite / "InRelease").write_bytes(self._releases[which])

    def faults(self, faults: dict[str, str]) -> None:
        """Spoil these from now on, and nothing else."""
        (self.folder / "new").write_text(json.dumps(faults))
        (self.folder / "new").rename(self.folder / "faults.json")

    @contextmanager
    def running(self, network: int, port: int) -> Iterator[None]:
        """Serve in the network namespace of a process."""
        enter = ["setpriv", "--pdeathsig=KILL", "nsenter", f"--target={network}", "--net", "--"]
        with subprocess.Popen([*enter, sys.executable, __file__, str(self.folder), str(port)]) as server:
            try:
                yield
            finally:
                server.kill()


class _Key:
    """A signing key, in gpg's folder `home`."""

    def __init__(self, home: str, created: float) -> None:
        self._gpg = [
            "gpg",
            "--homedir",
            home,
            "--batch",
            "--quiet",
            "--no-tty",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]
        name = f"test {hashlib.sha256(home.encode()).hexdigest()[:8]} <t@kata-nodes.invalid>"
        self._run("--faked-system-time", str(int(created)), "--quick-generate-key", name, "rsa3072", "sign", "never")
        listing = self._run("--with-colons", "--list-keys").decode()
        self.fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))
        self.public = self._run("--armor", "--export", self.fingerprint)

    def signed(self, text: str, when: float, *options: str) -> bytes:
        """The text, clear-signed at a time."""
        moment = ("--faked-system-time", str(int(when)))
        return self._run(*moment, "--digest-algo", "SHA512", *options, "--output", "-", "--clearsign", stdin=text)

    def _run(self, *arguments: str, stdin: str = "") -> bytes:
        result = subprocess.run([*self._gpg, *arguments], input=stdin.encode(), capture_output=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout


@contextmanager
def _key(created: float) -> Iterator[_Key]:
    home = tempfile.mkdtemp(prefix="gpg-")  # a short path: the name of the agent's socket is bounded (unix(7))
    try:
        yield _Key(home, created)
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


class Server(ThreadingHTTPServer):
    """Says nothing of callers who go."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
