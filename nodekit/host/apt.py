"""Change packages with apt and dpkg, unattended: waits are bounded, the lock's holder is named, and holds are kept."""

import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from nodekit.errors import NodeError
from nodekit.host.failpoints import reach
from nodekit.host.process import Finished, not_started, run
from nodekit.host.reading import MAX_SYSTEM, read, read_text
from nodekit.host.signals import undisturbed
from nodekit.progress import say, step
from nodekit.rules import certificates
from nodekit.rules.docker.docker_packages import (
    STATE_FORMAT,
    PackageState,
    Simulated,
    madison_rows,
    package_of,
    parse_leftovers,
    parse_simulation,
    parse_states,
    unreached,
)
from nodekit.rules.text import printable

LOCKS = ("var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock", "var/lib/apt/lists/lock", "var/cache/apt/archives/lock")
HELPER = "/usr/lib/apt/apt-helper"
"""apt's own program for downloads of files that are no packages."""
TEMPORARY = "/run"
"""Where apt's temporary files lie while this program reads an index: gone with the next boot, whatever happens."""
UPDATE_TIMEOUT = 300.0
CHANGE_TIMEOUT = 900.0
"""Seconds for one refresh of the index, and for one install or removal; an emulated node is slow."""
QUERY_TIMEOUT = 60.0
GRACE = 10.0
"""Seconds that apt has to finish when this program must end; what takes longer is ended."""
TERM_GRACE = 20.0
"""Seconds from SIGTERM to SIGKILL, for what takes longer."""
MAX_SAID = 16 << 20
"""Bytes that apt or dpkg may print; an upgrade of a whole system prints some 500 KiB."""
PIPE = 1 << 20
"""Bytes that they can still print once this program was killed: the largest pipe that a user may have (pipe(7))."""
LISTS = "lists"
"""The case of `package-install-failed` in which other lists of packages may help: those that are there lack something that is
needed, or name files that are gone. A golden image often has none, or some of the day on which it was made."""
PINS = "pins"
"""The case in which the lists hold it, and a pin of the node keeps it away, or apt cannot read the pins."""
_SHOWN = re.compile(r"(Get:|Err:|Fetched |Unpacking |Setting up |Removing |Purging |E: |dpkg: |Reading changelogs)")
_UNREAD = re.compile(r"^(Err:|W: Failed to fetch)", re.MULTILINE)
_LOCKED = re.compile(r"Could not get lock|Unable to acquire|locked by another process|Unable to lock")
_PINS_UNREAD = re.compile(
    r"^E: (Unable to parse package file \S*/preferences|No priority .* specified for pin|Invalid record in the preferences)",
    re.MULTILINE,
)
"""What apt says of preferences that it cannot read (apt_preferences(5)); it then installs nothing."""
_HOOK = re.compile(r"E: (Problem executing scripts (APT::Update|DPkg)::|Sub-process returned an error code)")
"""What apt says of a command that somebody has it run before or after it reads its lists or runs dpkg."""
_STOPPED = re.compile(r"^E: (Problem executing scripts DPkg::|Failure running script )", re.MULTILINE)
"""What it says of such a command around dpkg, or of one that is given the packages' files before (`DPkg::Pre-Install-Pkgs`)."""
_ACT = tuple(
    word
    for setting in (
        "APT::Get::Download-Only=false", "APT::Get::Print-URIs=false", "APT::Get::Trivial-Only=false", "APT::Get::Download=true",
        "APT::Get::Upgrade=true", "APT::Get::Only-Upgrade=false", "APT::Get::Remove=true", "APT::Mark::Simulate=false",
        "DPkg::ConfigurePending=true", "Debug::pkgDPkgPM=false",
    )
    for word in ("-o", setting)
)  # fmt: skip
"""Settings with which apt ends without an error and has not done what it was asked for, all or in part; the command line counts
more than apt.conf (apt.conf(5)). `APT::Get::Simulate` is one more, for what is not only asked."""
_DPKG = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")


class Before(NamedTuple):
    """A package as it was before this program touched it."""

    version: str | None
    """None: not installed."""
    held: bool
    automatic: bool = False
    """Whether apt installed it as a dependency of another package, and may remove it again."""
    leftover: bool = False
    """Whether it was removed and had left configuration files."""


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "",  # gettext takes its languages all the same, for what is not the locale C, and a login may set it
        "DEBIAN_FRONTEND": "noninteractive",
        "APT_LISTCHANGES_FRONTEND": "none",
        "NEEDRESTART_SUSPEND": "1",
    }


def package_states(names: Iterable[str], root: Path = Path("/")) -> dict[str, PackageState]:
    """What dpkg knows of these packages, in a few milliseconds and without apt; those not installed are left out.

    `root` is for looking at another root folder only: changes are made on the machine itself.
    """
    database = [] if root == Path("/") else ["--admindir", str(root / "var/lib/dpkg")]
    argv = ["dpkg-query", *database, "-W", f"-f={STATE_FORMAT}", *names]
    return parse_states(run(argv, timeout=QUERY_TIMEOUT, env=_environment(), check=False).stdout)


def _held() -> set[str]:
    """Every held package of the node; dpkg-query without names answers for all."""
    return {name for name, state in package_states([]).items() if state.held}


def before(names: Iterable[str]) -> dict[str, Before]:
    """These packages as they are now, for a later `go_back`."""
    names = list(names)
    argv = ["dpkg-query", "-W", f"-f={STATE_FORMAT}", *names]
    output = run(argv, timeout=QUERY_TIMEOUT, env=_environment(), check=False).stdout
    states, leftovers, automatic = parse_states(output), parse_leftovers(output), _automatic(names)
    return {
        name: Before(
            states[name].version if name in states else None,
            name in states and states[name].held,
            name in automatic,
            name in leftovers,
        )
        for name in names
    }


def _automatic(names: Sequence[str]) -> set[str]:
    return set(run(["apt-mark", "showauto", *names], timeout=QUERY_TIMEOUT, env=_environment()).stdout.split())


def _leftovers(names: Iterable[str]) -> set[str]:
    argv = ["dpkg-query", "-W", f"-f={STATE_FORMAT}", *names]
    return parse_leftovers(run(argv, timeout=QUERY_TIMEOUT, env=_environment(), check=False).stdout)


def lock_holder(root: Path) -> str | None:
    """Who holds a lock of apt or dpkg, such as `process 812 (unattended-upgr)`; None when nobody does.

    The kernel is asked (fcntl F_GETLK), so that a program that merely has the file open is not a holder. Raises NodeError
    `file-unreadable` for a user who may not look.
    """
    for lock in LOCKS:
        try:
            handle = os.open(root / lock, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            raise NodeError("file-unreadable", f"/{lock} cannot be looked at: {error.strerror}", "root") from None
        except OSError:
            continue  # no such lock file: nobody can hold it
        try:
            # struct flock of 64-bit Linux: type, whence, start, length, pid.
            request = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack("@hhqqi4x", fcntl.fcntl(handle, fcntl.F_GETLK, request))
        finally:
            os.close(handle)
        if kind != fcntl.F_UNLCK:
            name = ""
            with suppress(OSError):
                name = f" ({printable(read_text(f'/proc/{pid}/comm', MAX_SYSTEM).strip(), 40)})"
            return f"process {pid}{name}" if pid > 0 else "a process outside this machine's view"
    return None


def _held_error(holder: str, waited: float) -> NodeError:
    return NodeError("apt-lock-held", f"The packages of this node are locked by {holder}; waited {waited:g} s")


def _wait_for_locks(root: Path, lock_timeout: float) -> None:
    end = time.monotonic() + lock_timeout
    is_reported = False
    while (holder := lock_holder(root)) is not None:
        if time.monotonic() >= end:
            raise _held_error(holder, lock_timeout)
        if not is_reported:
            say(f"apt is locked by {holder}; waiting up to {lock_timeout:g} s")
            is_reported = True
        time.sleep(0.5)


def _follow(argv: Sequence[str], timeout: float, temporary: str = "") -> Finished:
    """Run `argv` to its end and print the important ones of its lines as they come; raises NodeError `command-timeout`,
    `command-output-too-long` or `tool-missing`.

    It has a process group of its own, and itself holds the other end of the pipe that it prints into: when this program is
    killed, dpkg still ends what it began instead of dying on a closed pipe.
    """
    end = time.monotonic() + timeout
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with open(reader, "rb", buffering=0) as output:
        try:
            with suppress(OSError):  # the machine's own bound is lower
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE)
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env={**_environment(), "TMPDIR": temporary} if temporary else _environment(),
                start_new_session=True,
                pass_fds=(reader,),
            )
        except OSError as error:
            raise not_started(argv[0], error, argv[0]) from None
        finally:
            os.close(writer)
        try:
            code, printed = _read_to_the_end(process, output, end, argv, timeout)
        except BaseException:
            # The roll-back after this must see all that was done, and dpkg is best left to finish what it began.
            with undisturbed():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
                _end(process)
            raise
    return Finished(code, printed.decode(errors="replace"), "")


def _read_to_the_end(
    process: "subprocess.Popen[bytes]", output: IO[bytes], end: float, argv: Sequence[str], timeout: float
) -> tuple[int, bytearray]:
    """Exit code of the process and what it printed; raises NodeError `command-timeout` or `command-output-too-long`."""
    reach("packages-changing")
    os.set_blocking(output.fileno(), False)
    printed = bytearray()
    seen = 0
    while True:
        code = process.poll()
        while len(printed) <= MAX_SAID and (data := output.read(PIPE)):
            printed += data
        whole = printed[seen : printed.rfind(b"\n") + 1]
        for line in whole.decode(errors="replace").replace("\r", "\n").split("\n"):
            if _SHOWN.match(line):
                say(f"  {printable(line, 160)}")
        seen += len(whole)
        if code is not None:
            return code, printed
        if len(printed) > MAX_SAID:
            _end(process)
            raise NodeError(
                "command-output-too-long", f"{' '.join(argv[:2])} printed more than {MAX_SAID >> 20} MiB and was ended"
            )
        if time.monotonic() >= end:
            _end(process)
            raise NodeError("command-timeout", f"{' '.join(argv[:2])} did not end within {timeout:g} s")
        with suppress(subprocess.TimeoutExpired):  # it mostly ends within a few hundredths of a second
            process.wait(0.2)


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number, patience in ((signal.SIGTERM, TERM_GRACE), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def _reason(text: str) -> str:
    """The part of apt's or dpkg's output that shows why it failed.

    The reason of a download is indented below its `Err:`, and dpkg's below the package that it names. What a package lacks stands
    above an `E:` that speaks of held packages in any case, and from apt 3 on below it, in numbered lines.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [
        line.strip()
        for before, line in itertools.pairwise(["", *lines])
        if line.startswith(("E: ", "dpkg: error", "dpkg-deb: error", "Err:", "W: Failed"))
        or (before.startswith("Err:") and line.startswith("  "))
        or (before.startswith(("dpkg: error processing ", "dpkg: dependency problems ")) and line.startswith(" "))
        or re.match(r" .*\b(Depends|Conflicts|Breaks): | +[0-9]+\. ", line)
    ]
    return printable("; ".join((marked or [line.strip() for line in lines])[-4:]), 600) or "it said nothing"


def _case(text: str, otherwise: str) -> str:
    """The case of the failure whose remedy helps, by what apt or dpkg printed."""
    if re.search(r"No space left on device|enough free space", text):
        return "space"
    # What of a package cannot be had, for example since a newer version took its place in the repository.
    if re.search(r"^E: (Failed to fetch|Unable to fetch some archives)", text, re.MULTILINE) and otherwise == "apt":
        return LISTS
    return "hook" if _STOPPED.search(text) and otherwise == "apt" else otherwise


def _failed(message: str, text: str, otherwise: str = "", *, command: str = "") -> NodeError:
    """What apt or dpkg could not do, having printed `text`; `otherwise` is the remedy's case, or `command` what to run by hand.

    Where a file system has turned read-only, that is the error: nothing is wrong with a package.
    """
    if "Read-only file system" in text:
        return NodeError("file-unwritable", message)
    return NodeError("package-install-failed", message, _case(text, otherwise), command=command)


def _locked_run(root: Path, argv: Sequence[str], lock_timeout: float, timeout: float, temporary: str = "") -> Finished:
    """Run a program that takes apt's locks; wait for another program that takes them first.

    `temporary` is the folder of its temporary files, the system's where it is empty.
    """
    end = time.monotonic() + lock_timeout
    while True:
        left = max(0.0, end - time.monotonic())
        _wait_for_locks(root, left)
        result = _follow([*argv], timeout, temporary)
        if result.code == 0 or not _LOCKED.search(result.stdout):
            return result
        if time.monotonic() >= end:
            raise _held_error(lock_holder(root) or "a process that has just ended", lock_timeout)
        time.sleep(1)


def _within_cloud_init(root: Path) -> bool:
    """Whether cloud-init itself has started this, as at a first boot: it waits for us, so waiting for it would never end."""
    try:
        return re.search(r"/cloud-[a-z-]+\.service", read_text(root / "proc/self/cgroup", MAX_SYSTEM)) is not None
    except OSError:
        return False


def settle(root: Path, lock_timeout: float) -> None:
    """Let cloud-init end its own work with apt, and finish what an interrupted dpkg left half done."""
    if shutil.which("cloud-init") and not _within_cloud_init(root):
        with step("Waiting for cloud-init"), suppress(NodeError):  # one that never ends must not stop this for ever
            run(["cloud-init", "status", "--wait"], timeout=lock_timeout, check=False)
    result = _locked_run(root, ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"], lock_timeout, CHANGE_TIMEOUT)
    if result.code != 0:
        message = f"dpkg cannot finish an earlier interrupted installation: {_reason(result.stdout)}"
        raise _failed(message, result.stdout, "interrupted")
    reach("packages-settled")


@contextmanager
def _temporary_folder() -> Iterator[str]:
    """A folder for apt's temporary files; an empty string where none can be made, so that apt says why.

    apt ends the method that verifies a signature whether or not it has removed the source's key from there by then: with 3.0.4
    about one refresh in two leaves it behind. The method runs as another user, _apt.
    """
    try:
        folder = tempfile.mkdtemp(prefix="kata-nodes-apt-", dir=TEMPORARY)
    except OSError:
        yield ""
        return
    try:
        Path(folder).chmod(0o1777)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def download(address: str, limit: int, timeout: float) -> bytes | None:
    """A file of at most `limit` bytes as apt itself downloads it; None where that fails.

    Only apt knows the logins of apt_auth.conf(5), certificates and proxies of a kind that apt.conf sets for a site.
    """
    with _temporary_folder() as folder:
        if not folder:
            return None
        # apt, as root, changes the owner of this file to _apt, so no other user may be able to replace it by a symbolic link.
        own = Path(folder, "download")
        target = str(own / "file")
        argv = ["prlimit", f"--fsize={limit}", HELPER, "-o", "Acquire::Retries=0", "download-file", address, target]
        try:
            own.mkdir(mode=0o700)
            with suppress(LookupError, PermissionError):
                shutil.chown(own, "_apt")
            result = run(argv, timeout=timeout, env={**_environment(), "TMPDIR": folder}, check=False)
            return (read(target, limit) or None) if result.code == 0 else None
        except (NodeError, OSError):
            return None


def _only_hooks_failed(result: Finished) -> bool:
    """Whether the lists were read, and only a command of somebody's, which apt runs before or after that, has failed.

    On a machine that had a desktop or is half upgraded, one that keeps another catalogue of packages often does.
    """
    errors = [line for line in result.stdout.splitlines() if line.startswith("E: ")]
    return result.code != 0 and errors != [] and not _UNREAD.search(result.stdout) and all(map(_HOOK.match, errors))


@contextmanager
def _alone(root: Path, source: str, entry: str | None) -> Iterator[Path]:
    """The sources file, or one that holds this entry of it and nothing else, where such a one can be made."""
    with ExitStack() as stack:
        place = root / source.lstrip("/")
        if entry is not None:
            with suppress(OSError):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kata-nodes-apt-", dir=TEMPORARY))
                copy = Path(folder, f"alone.{source.rpartition('.')[2]}")
                copy.write_text(entry, errors="replace")
                place = copy
        yield place


def refresh(root: Path, source: str, lock_timeout: float, entry: str | None = None) -> None:
    """Read the index of one sources file (a path on the node), or of one entry of it: broken sources elsewhere do not matter.

    Raises NodeError `repository-unreachable` with apt's own words.
    """
    with _temporary_folder() as folder, _alone(root, source, entry) as place:
        argv = ["apt-get", "update", *_ACT, "-o", f"Dir::Etc::sourcelist={place}", "-o", "Dir::Etc::sourceparts=-"]
        # Without List-Cleanup=0 apt would delete the indices of all other sources; a failed download is otherwise exit code 0.
        argv += ["-o", "APT::Get::List-Cleanup=0", "-o", "APT::Update::Error-Mode=any", "-o", "Acquire::Retries=2"]
        result = _locked_run(root, argv, lock_timeout, UPDATE_TIMEOUT, folder)
    if _only_hooks_failed(result):
        say(f"note: {_reason(result.stdout)}; the index was read all the same")
    elif result.code != 0 or _UNREAD.search(result.stdout):
        wrong_clock = re.search(r"^E: Release file .* is (not valid yet|expired)", result.stdout, re.MULTILINE)
        raise NodeError(
            "repository-unreachable",
            f"The index of the repository in {source} cannot be read: {_reason(result.stdout)}",
            _case(result.stdout, "clock" if wrong_clock else certificates.case_of_words(result.stdout)),
        )
    reach("index-read")


def refresh_all(root: Path, lock_timeout: float) -> None:
    """Read the indices of all sources of the node, as far as they can be read; the lists of the others stay as they are."""
    with _temporary_folder() as folder:
        result = _locked_run(root, ["apt-get", "update", *_ACT], lock_timeout, UPDATE_TIMEOUT, folder)
    reach("index-read")
    if result.code != 0 or _UNREAD.search(result.stdout):
        say(f"Not all indices could be read: {_reason(result.stdout)}")


def settings(root: Path) -> str:
    """apt's settings as `apt-config dump` prints them; `root` is for looking at another root folder only."""
    if root == Path("/") or "APT_CONFIG" in os.environ:
        return run(["apt-config", "dump"], timeout=QUERY_TIMEOUT, env=_environment()).stdout
    handle = os.memfd_create("apt.conf")  # read before apt looks for its other files, so that it looks there
    try:
        os.write(handle, f"Dir {json.dumps(str(root))};\n".encode())
        env = {**_environment(), "APT_CONFIG": f"/proc/self/fd/{handle}"}
        return run(["apt-config", "dump"], timeout=QUERY_TIMEOUT, env=env, pass_fds=(handle,)).stdout
    finally:
        os.close(handle)


def unreadable_by(dump: str, place: Path) -> str | None:
    """The user as whom apt checks signatures, by what `settings` reports, where that user may not read a file; else None.

    apt then says that a key is missing, or that an unknown error happened.
    """
    user = re.search(r'^APT::Sandbox::User "([^"\n]+)"', dump, re.MULTILINE)
    if user is None or user[1] == "root" or os.geteuid() != 0:
        return None
    argv = ["setpriv", "--reuid", user[1], "--regid", "nogroup", "--clear-groups", "sh", "-c", 'test -r "$1" || exit 9']
    with suppress(NodeError):  # without that tool, apt itself says what it can
        return user[1] if run([*argv, "sh", str(place)], timeout=QUERY_TIMEOUT, check=False).code == 9 else None
    return None


def offers(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Package, version and address of each version that apt's lists hold of these packages.

    Raises NodeError `apt-sources-invalid` with apt's own words when it cannot read its lists.
    """
    result = run(["apt-cache", "madison", *names], timeout=QUERY_TIMEOUT, env=_environment(), check=False)
    if result.code != 0 and re.search(r"^E: ", result.stderr, re.MULTILINE):
        raise NodeError("apt-sources-invalid", f"apt cannot read its lists: {_reason(result.stderr)}")
    return madison_rows(result.stdout)


def require_versions(versions: Mapping[str, str]) -> None:
    """Raise NodeError `version-not-in-repository`, naming the versions that are there, unless apt knows that of each package."""
    offered = offers(list(versions)) if versions else []
    for package, version in versions.items():
        known = list(dict.fromkeys(each for name, each, _ in offered if name == package))
        if version not in known:
            raise NodeError(
                "version-not-in-repository",
                f"No repository of this node holds {package} {version}; it holds {', '.join(known[:20]) or 'none at all'}",
            )


def simulate(requested: Sequence[str]) -> Simulated:
    """What apt would do for these arguments of `install`; raises NodeError `package-install-failed` when it cannot."""
    argv = ["apt-get", "install", "--simulate", *_ACT, "--no-auto-remove"]
    argv += ["--allow-downgrades", "--allow-change-held-packages", *requested]
    result = run(argv, timeout=QUERY_TIMEOUT, env=_environment(), check=False)
    if result.code != 0:
        output = result.stdout + result.stderr
        raise NodeError(
            "package-install-failed",
            f"apt finds no way to install {' '.join(requested)}: {_reason(output)}",
            PINS if _is_pinned(output) else LISTS,
        )
    return parse_simulation(result.stdout)


def _is_pinned(output: str) -> bool:
    """Whether a pin keeps a package away: apt has no candidate, though its lists hold the package."""
    if _PINS_UNREAD.search(output):
        return True
    pattern = r"^E: Package '(\S+)' has no installation candidate|\bDepends: (\S+) .*but it is not installable"
    missing = [name or dependency for name, dependency in re.findall(pattern, output, re.MULTILINE)]
    return bool(missing) and bool(offers(missing))


def install(root: Path, requested: Sequence[str], lock_timeout: float, *, remove: bool = False) -> None:
    """Install `name=version` and, with `remove`, remove `name-`.

    apt drops the hold of a package that it is asked to change, and changes no other held one; every hold of the node is set
    again, even when the install fails. A command of somebody's that fails after dpkg has done all of it is a note.
    Raises NodeError `package-install-failed` or `apt-lock-held`.
    """
    were_held = _held()
    argv = ["apt-get", "install", "-y", "-q", *_ACT, "-o", "APT::Get::Simulate=false", *_DPKG]
    argv += ["-o", f"DPkg::Lock::Timeout={max(1, int(lock_timeout))}", "--no-auto-remove"]
    argv += ["--allow-downgrades", "--allow-change-held-packages", *([] if remove else ["--no-remove"]), *requested]
    try:
        result = _locked_run(root, argv, lock_timeout, CHANGE_TIMEOUT)
        reach("packages-changed")
    finally:
        lost = sorted((were_held & package_states(were_held).keys()) - _held()) if were_held else []
        if lost:
            mark(root, "hold", lost, lock_timeout)
    missed = unreached(requested, package_states(map(package_of, requested)))
    if result.code != 0 and (missed or not _only_hooks_failed(result)):
        raise _failed(f"apt could not install {' '.join(requested)}: {_reason(result.stdout)}", result.stdout, "apt")
    if missed:
        raise NodeError(
            "package-install-failed",
            f"apt ended without an error, and did not do what it was asked for: {', '.join(missed)}",
            "settings",
        )
    if result.code != 0:
        say(f"note: {_reason(result.stdout)}; the packages were changed all the same")


def mark(root: Path, verb: str, names: Sequence[str], lock_timeout: float) -> None:
    """`hold`, `unhold`, or call packages `auto` or `manual`; raises NodeError `package-install-failed` or `apt-lock-held`."""
    result = _locked_run(root, ["apt-mark", *_ACT, verb, *names], lock_timeout, QUERY_TIMEOUT)
    if result.code != 0:
        message = f"apt-mark {verb} {' '.join(names)} failed: {_reason(result.stdout)}"
        raise _failed(message, result.stdout, command=f"'apt-mark {verb}'")
    states = package_states(names) if verb in ("hold", "unhold") else {}
    if missed := [name for name, state in states.items() if state.held != (verb == "hold")]:
        message = f"apt-mark {verb} ended without an error, and did not do it for {', '.join(missed)}"
        raise NodeError("package-install-failed", message, "settings")
    reach("packages-marked")


def _steps(before: Mapping[str, Before]) -> dict[str, str]:
    """Package -> what apt is asked for, `name-` or `name=version`, where its version is not that of `before`."""
    now = package_states(before)
    steps: dict[str, str] = {}
    for name, was in sorted(before.items()):
        if was.version is None and name in now:
            steps[name] = f"{name}-"
        elif was.version is not None and (name not in now or now[name].version != was.version):
            steps[name] = f"{name}={was.version}"
    return steps


def _refusal(steps: Collection[str]) -> NodeError | None:
    """Why apt would not take these steps together, or not without removing other packages; None when it would."""
    try:
        require_versions(dict(each.split("=", 1) for each in steps if "=" in each))
        others = [name for name in simulate(list(steps)).removed if f"{name}-" not in steps]
    except NodeError as error:
        if error.code not in ("version-not-in-repository", "package-install-failed"):
            raise
        return error
    if not others:
        return None
    return NodeError("packages-conflict", f"Going back to {' '.join(steps)} would also remove {', '.join(others)}")


def feasible(root: Path, before: Mapping[str, Before], together: Collection[str], lock_timeout: float) -> dict[str, NodeError]:
    """The packages that cannot go back to their version in `before`, each with the reason; all others can, together.

    `together` are packages that may need each other's step. Raises NodeError where apt itself does not work, so that nothing is
    known.
    """
    steps = _steps(before)
    if not steps:
        return {}
    with suppress(NodeError):  # the version before may be just what repairs a package that cannot be configured
        settle(root, lock_timeout)
    if _refusal(steps.values()) is None:
        return {}
    simulate([])
    refused: dict[str, NodeError] = {}
    taken: list[str] = []
    groups = [[name for name in together if name in steps], *([name] for name in steps)]
    while True:
        before_round = len(taken)
        for group in groups:
            new = [name for name in group if name not in taken]
            refusal = _refusal([steps[name] for name in (*taken, *new)]) if new else None
            if refusal is None:
                taken += new
            elif len(group) == 1:
                refused[group[0]] = refusal
        if len(taken) == before_round:
            return {name: error for name, error in refused.items() if name not in taken}


def go_back(root: Path, before: Mapping[str, Before], lock_timeout: float) -> list[str]:
    """Bring packages to the versions, holds and marks of `before`; returns the names that changed.

    Raises NodeError `version-not-in-repository`, `packages-conflict` (something needs one by now), or those of `install`.
    """
    if not before:
        return []
    steps = _steps(before)
    if steps:
        with suppress(NodeError):  # the version before may be just what repairs a package that cannot be configured
            settle(root, lock_timeout)
        if (refusal := _refusal(steps.values())) is not None:
            raise refusal
        install(root, list(steps.values()), lock_timeout, remove=True)
    changed = set(steps)
    gone = sorted(_leftovers(before) & {name for name, was in before.items() if was.version is None and not was.leftover})
    if gone:
        _purge(root, gone, lock_timeout)
        changed.update(gone)
    states = package_states(before)
    automatic = _automatic(sorted(states)) if states else set()
    for verb, names in (
        ("hold", [name for name, state in states.items() if before[name].held and not state.held]),
        ("unhold", [name for name, state in states.items() if state.held and not before[name].held]),
        ("auto", [name for name in states if before[name].automatic and name not in automatic]),
        ("manual", [name for name in states if name in automatic and not before[name].automatic]),
    ):
        if names:
            mark(root, verb, sorted(names), lock_timeout)
            changed.update(names)
    return sorted(changed)


def _purge(root: Path, names: Sequence[str], lock_timeout: float) -> None:
    """Remove what removed packages have left behind."""
    result = _locked_run(root, ["dpkg", "--purge", *names], lock_timeout, CHANGE_TIMEOUT)
    if result.code != 0:
        raise _failed(f"dpkg --purge {' '.join(names)} failed: {_reason(result.stdout)}", result.stdout, command="it")
    reach("packages-purged")
