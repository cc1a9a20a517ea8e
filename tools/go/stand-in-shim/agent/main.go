// A stand-in for Kata's agent, for tests and stack `local`: the first process of a guest. It is not Kata Containers.
//
// It starts a container's processes as the genuine agent does (src/agent of kata-containers): own mounts and process
// namespace, the granted capabilities, masked paths below /proc, no seccomp. What it lacks: cgroups of a container,
// policies, devices that are plugged in later.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"stand-in-shim/wire"
)

const modules = "/lib/stand-in"

// Capabilities, groups and namespaces belong to a thread until the program that is started takes them over.
func init() { runtime.LockOSThread() }

func main() {
	switch filepath.Base(os.Args[0]) {
	case containerName:
		containerMain()
	case joinName:
		joinMain()
	case execName:
		execMain()
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "This is a stand-in for Kata's agent, for tests, and runs as the first process of a guest.")
		os.Exit(2)
	}
	runtime.UnlockOSThread()
	if err := serve(); err != nil {
		say("the agent cannot go on: %v", err)
	}
	time.Sleep(100 * time.Millisecond) // for the console; that the first process ends is a panic, as with the genuine agent
	os.Exit(1)
}

func say(format string, values ...any) {
	if console, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(console, "<2>stand-in agent: "+format+"\n", values...)
		console.Close()
	}
}

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

func serve() error {
	first := []mount{
		{"proc", "/proc", "proc", quiet, ""},
		{"dev", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	}
	if err := mountAll(first); err != nil {
		return err
	}
	if err := loadFolder(modules + "/boot"); err != nil {
		return err
	}
	network, err := readFolder(modules + "/network")
	if err != nil {
		return err
	}
	if err := switchRoot(); err != nil {
		return fmt.Errorf("leaving the initial RAM disk: %w", err)
	}
	rest := []mount{
		{"sysfs", "/sys", "sysfs", quiet, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
	}
	if err := mountAll(rest); err != nil {
		return err
	}
	if err := mountCgroups(); err != nil {
		return err
	}
	if err := loopback(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	a := &agent{network: network, containers: map[string]*container{}}
	go func() {
		if err := a.serial(); err != nil {
			say("the serial port: %v", err)
		}
	}()
	return listen(a)
}

func mountAll(mounts []mount) error {
	for _, one := range mounts {
		if err := os.MkdirAll(one.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(one.source, one.target, one.kind, one.flags, one.data); err != nil {
			return fmt.Errorf("mounting %s: %w", one.target, err)
		}
	}
	return nil
}

// mountCgroups follows the kernel command line, as the genuine agent does: without the unified hierarchy it mounts the
// controllers of version 1, and a kernel that lacks one of them ends there (src/agent/rustjail/src/cgroups, and
// `cgroup: Unknown subsys name 'cpuset'` on the console).
func mountCgroups() error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if strings.Contains(" "+string(line), " systemd.unified_cgroup_hierarchy=1") {
		return mountAll([]mount{{"cgroup2", "/sys/fs/cgroup", "cgroup2", quiet, "nsdelegate"}})
	}
	listed, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return err
	}
	mounts := []mount{{"tmpfs", "/sys/fs/cgroup", "tmpfs", quiet, "mode=755"}}
	for _, line := range strings.Split(string(listed), "\n") {
		if fields := strings.Fields(line); len(fields) == 4 && fields[0][0] != '#' && fields[3] == "1" {
			mounts = append(mounts, mount{"cgroup", "/sys/fs/cgroup/" + fields[0], "cgroup", quiet, fields[0]})
		}
	}
	return mountAll(mounts)
}

// switchRoot makes a tmpfs the root, since pivot_root(2) refuses to leave the initial RAM disk.
func switchRoot() error {
	if err := mountAll([]mount{{"root", "/root", "tmpfs", 0, "mode=0755"}}); err != nil {
		return err
	}
	for _, name := range []string{"/proc", "/dev"} {
		if err := os.Mkdir("/root"+name, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(name, "/root"+name, "", unix.MS_MOVE, ""); err != nil {
			return err
		}
	}
	if err := unix.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

func readFolder(folder string) ([][]byte, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	sort.Slice(entries, func(a, b int) bool { return entries[a].Name() < entries[b].Name() })
	var contents [][]byte
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			return nil, err
		}
		contents = append(contents, content)
	}
	return contents, nil
}

func loadFolder(folder string) error {
	contents, err := readFolder(folder)
	if err != nil {
		return err
	}
	return load(contents)
}

func load(contents [][]byte) error {
	for at, content := range contents {
		if err := unix.InitModule(bytes.Clone(content), ""); err != nil && err != unix.EEXIST {
			return fmt.Errorf("loading kernel module %d: %w", at, err)
		}
	}
	return nil
}

// serial answers on the port that an emulated guest has in the place of a vsock.
func (a *agent) serial() error {
	port := ""
	for begin := time.Now(); port == ""; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > deviceWait {
			return nil
		}
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return err
		}
		for _, name := range names {
			if text, _ := os.ReadFile(name); strings.TrimSpace(string(text)) == wire.Serial {
				port = "/dev/" + filepath.Base(filepath.Dir(name))
			}
		}
	}
	file, err := os.OpenFile(port, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	session, err := yamux.Server(file, wire.Multiplexing(time.Hour))
	if err != nil {
		return err
	}
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return err
		}
		go a.answer(wire.NewStream(stream))
	}
}

func listen(a *agent) error {
	listener, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(listener, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: wire.Port}); err != nil {
		return err
	}
	if err := unix.Listen(listener, 64); err != nil {
		return err
	}
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return err
		}
		conn, err := wire.NewConn(fd)
		if err != nil {
			return err
		}
		go a.answer(conn)
	}
}
