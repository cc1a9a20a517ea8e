"""A Kata node as a deploy of pyinfra would make it: the same as playbook.yml."""

import json
from io import StringIO

from pyinfra import host
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server, systemd

DOCKER = ("docker-ce", "docker-ce-cli", "docker-ce-rootless-extras")
FOLDER = "/opt/kata/share/defaults/kata-containers"
HELD = (*DOCKER, "containerd.io")
RUNTIME = {"runtimeType": "io.containerd.kata.v2", "options": {"ConfigPath": f"{FOLDER}/configuration-qemu.toml"}}
DRIVER = f'[hypervisor.qemu]\nkernel_params = "{host.data.kernel_params}"\n'

files.put(
    name="Load Kata's modules at each start",
    src=StringIO("vhost_vsock\nvhost_net\ntun\n"),
    dest="/etc/modules-load.d/kata.conf",
    mode="644",
)
files.download(name="Have Docker's key", src=f"{host.data.repository}/gpg", dest="/etc/apt/keyrings/docker.asc", mode="644")
apt.sources_file(
    name="Have Docker's repository",
    filename="docker",
    uris=[host.data.repository],
    suites=["trixie"],
    components=["stable"],
    signed_by="/etc/apt/keyrings/docker.asc",
)
apt.packages(
    name="Install Docker",
    packages=[*(f"{name}={host.data.docker_version}" for name in DOCKER), "containerd.io"],
    update=True,
    cache_time=86400,
    allow_downgrades=True,
)
# On a fresh host dpkg knows none of them, and says so with an error.
selections = host.get_fact(Command, f"dpkg --get-selections {' '.join(HELD)} 2>/dev/null || true") or ""
if selections.count("hold") != len(HELD):
    server.shell(name="Hold Docker", commands=[f"apt-mark hold {' '.join(HELD)}"])
archive = files.download(
    name="Download Kata", src=host.data.kata_archive, dest="/var/cache/kata-static.tar.xz", sha256sum=host.data.kata_sha256
)
files.unarchive(name="Unpack Kata", src="/var/cache/kata-static.tar.xz", dest="/", remote_src=True, creates="/opt/kata/VERSION")
files.put(name="Set the parameters of guests", src=StringIO(DRIVER), dest=f"{FOLDER}/config.d/60-parameters.toml", mode="644")
daemon = files.put(
    name="Register the runtime",
    src=StringIO(f"{json.dumps({'runtimes': {'kata': RUNTIME}}, indent=4)}\n"),
    dest="/etc/docker/daemon.json",
    mode="644",
)
systemd.service(name="Run Docker", service="docker.service", running=True, enabled=True)
systemd.service(name="Reload Docker", service="docker.service", reloaded=True, _if=daemon.did_change)
