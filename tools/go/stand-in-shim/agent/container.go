package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var mountFlags = map[string]uintptr{
	"bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC, "ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID,
	"nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "noatime": unix.MS_NOATIME, "relatime": unix.MS_RELATIME,
	"strictatime": unix.MS_STRICTATIME, "nodiratime": unix.MS_NODIRATIME, "sync": unix.MS_SYNCHRONOUS,
}

// Options that change nothing here: defaults, and how mounts of the node would spread.
var ignoredOptions = map[string]bool{
	"rw": true, "suid": true, "dev": true, "exec": true, "defaults": true, "async": true,
	"private": true, "rprivate": true, "slave": true, "rslave": true, "shared": true, "rshared": true,
}

// containerMain makes the container around itself, waits at the gate, and becomes the container's program.
func containerMain() {
	var given plan
	status := os.NewFile(statusFD, "status")
	unix.CloseOnExec(statusFD)
	unix.CloseOnExec(gateFD)
	err := readPlan(&given)
	if err == nil {
		err = enclose(given.Spec, given.Rootfs)
	}
	program := ""
	if err == nil {
		program, err = find(given.Spec.Process)
	}
	if err != nil {
		fmt.Fprintln(status, strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(1)
	}
	fmt.Fprintln(status, os.Getpid())
	passGate()
	fmt.Fprintln(status, become(given.Spec.Process, program))
	os.Exit(1)
}

// joinMain enters the namespaces of a container's first process, and starts there what it was asked to.
func joinMain() {
	var given plan
	status := os.NewFile(statusFD, "status")
	unix.CloseOnExec(statusFD)
	child, err := enter(&given)
	if err != nil {
		fmt.Fprintln(status, strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(1)
	}
	fmt.Fprintln(status, child.Process.Pid)
	status.Close()
	os.NewFile(gateFD, "gate").Close()
	child.Wait()
	os.Exit(exitCode(child.ProcessState))
}

func enter(given *plan) (*exec.Cmd, error) {
	if err := readPlan(given); err != nil {
		return nil, err
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	// Threads that share their working folder may not change the mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, err
	}
	target, err := unix.PidfdOpen(given.Target, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Setns(target, unix.CLONE_NEWNS|unix.CLONE_NEWPID); err != nil {
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	child := &exec.Cmd{
		Path: "/proc/self/fd/6", Args: []string{execName}, Dir: "/",
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		ExtraFiles:  []*os.File{reader, os.NewFile(gateFD, "gate"), os.NewFile(statusFD, "status"), self},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: given.Proc.Terminal},
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	reader.Close()
	err = json.NewEncoder(writer).Encode(given)
	return child, errors.Join(err, writer.Close())
}

func execMain() {
	var given plan
	status := os.NewFile(statusFD, "status")
	for fd := planFD; fd <= statusFD+1; fd++ {
		unix.CloseOnExec(fd)
	}
	err := readPlan(&given)
	passGate()
	program := ""
	if err == nil {
		program, err = find(given.Proc)
	}
	if err == nil {
		err = become(given.Proc, program)
	}
	fmt.Fprintln(status, err)
	os.Exit(1)
}

func readPlan(into *plan) error {
	file := os.NewFile(planFD, "plan")
	defer file.Close()
	return json.NewDecoder(file).Decode(into)
}

// passGate returns when the process is started, and ends it when it never will be.
func passGate() {
	gate := os.NewFile(gateFD, "gate")
	if n, _ := gate.Read(make([]byte, 1)); n != 1 {
		os.Exit(1)
	}
	gate.Close()
}

// enclose makes the container's file system and enters it.
func enclose(spec *specs.Spec, root string) error {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("the container's root: %w", err)
	}
	for _, one := range spec.Mounts {
		if err := mountInto(root, one); err != nil {
			return fmt.Errorf("mounting %s: %w", one.Destination, err)
		}
	}
	if err := devices(root, spec.Linux.Devices); err != nil {
		return err
	}
	for name, value := range spec.Linux.Sysctl {
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("sysctl %s: %w", name, err)
		}
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return restrict(spec)
}

// restrict applies read-only and masked paths, as the genuine agent does in the guest (rustjail/src/mount.rs): this is what
// keeps a user namespace from mounting a proc of its own.
func restrict(spec *specs.Spec) error {
	for _, path := range spec.Linux.ReadonlyPaths {
		err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
		if err == unix.ENOENT {
			continue
		}
		if err == nil {
			err = remount(path, unix.MS_BIND|unix.MS_REC|unix.MS_RDONLY)
		}
		if err != nil {
			return fmt.Errorf("read-only %s: %w", path, err)
		}
	}
	for _, path := range spec.Linux.MaskedPaths {
		err := unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
		if err == unix.ENOTDIR {
			err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "")
		}
		if err != nil && err != unix.ENOENT {
			return fmt.Errorf("masking %s: %w", path, err)
		}
	}
	if spec.Root.Readonly {
		return remount("/", unix.MS_BIND|unix.MS_RDONLY)
	}
	return nil
}

// remount keeps what the mount has of nosuid, nodev and noexec.
func remount(path string, flags uintptr) error {
	var there unix.Statfs_t
	if err := unix.Statfs(path, &there); err != nil {
		return err
	}
	return unix.Mount("", path, "", flags|unix.MS_REMOUNT|uintptr(there.Flags)&quiet, "")
}

func mountInto(root string, one specs.Mount) error {
	var flags uintptr
	var data []string
	for _, option := range one.Options {
		switch flag, known := mountFlags[option]; {
		case known:
			flags |= flag
		case !ignoredOptions[option]:
			data = append(data, option)
		}
	}
	bind := flags&unix.MS_BIND != 0
	target, err := inside(root, one.Destination)
	if err != nil {
		return err
	}
	if info, err := os.Stat(one.Source); bind && err == nil && !info.IsDir() {
		err = os.MkdirAll(filepath.Dir(target), 0o755)
		if file, failed := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644); failed == nil {
			file.Close()
		} else {
			err = errors.Join(err, failed)
		}
		if err != nil {
			return err
		}
	} else if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	kind := one.Type
	if bind {
		if err := unix.Mount(one.Source, target, "", flags&(unix.MS_BIND|unix.MS_REC), ""); err != nil {
			return err
		}
		if rest := flags &^ (unix.MS_BIND | unix.MS_REC); rest != 0 {
			return remount(target, rest|unix.MS_BIND)
		}
		return nil
	}
	if kind == "cgroup" { // whatever the node has; the guest has this
		kind, data = "cgroup2", nil
	}
	return unix.Mount(one.Source, target, kind, flags, strings.Join(data, ","))
}

// inside resolves a path below the container's root and follows no link out of it.
func inside(root, path string) (string, error) {
	done, rest := "", strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			done = done[:max(strings.LastIndex(done, "/"), 0)]
			continue
		}
		link, err := os.Readlink(root + done + "/" + name)
		if err != nil {
			done += "/" + name
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("%s: too many links", path)
		}
		if strings.HasPrefix(link, "/") {
			done = ""
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	return root + done, nil
}

func devices(root string, extra []specs.LinuxDevice) error {
	mode := os.FileMode(0o666)
	all := []specs.LinuxDevice{
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, FileMode: &mode},
		{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5, FileMode: &mode},
		{Path: "/dev/full", Type: "c", Major: 1, Minor: 7, FileMode: &mode},
		{Path: "/dev/random", Type: "c", Major: 1, Minor: 8, FileMode: &mode},
		{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9, FileMode: &mode},
		{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0, FileMode: &mode},
	}
	kinds := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}
	for _, device := range append(all, extra...) {
		path, err := inside(root, device.Path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		permissions := uint32(0o666)
		if device.FileMode != nil {
			permissions = uint32(device.FileMode.Perm())
		}
		number := int(unix.Mkdev(uint32(device.Major), uint32(device.Minor)))
		if err := unix.Mknod(path, kinds[device.Type]|permissions, number); err != nil && err != unix.EEXIST {
			return fmt.Errorf("device %s: %w", device.Path, err)
		}
		if err := unix.Chmod(path, permissions); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, root+"/dev/"+name); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// find is the program in the container's PATH, in the genuine agent's words when there is none (rustjail/src/container.rs).
func find(process *specs.Process) (string, error) {
	if len(process.Args) == 0 {
		return "", errors.New("the container has no program")
	}
	name := process.Args[0]
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(process.Cwd, name)
		}
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	for _, entry := range process.Env {
		if path, ok := strings.CutPrefix(entry, "PATH="); ok && !strings.Contains(name, "/") {
			for _, folder := range filepath.SplitList(path) {
				file := filepath.Join(folder, name)
				if info, err := os.Stat(file); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
					return file, nil
				}
			}
		}
	}
	return "", fmt.Errorf("the file %s was not found", process.Args[0])
}

// become takes the user, groups and capabilities of the process on this very thread, and executes the program from it.
func become(process *specs.Process, program string) error {
	for _, limit := range process.Rlimits {
		number, known := limits[limit.Type]
		if !known {
			return fmt.Errorf("limit %s is not known", limit.Type)
		}
		if err := unix.Prlimit(0, number, &unix.Rlimit{Cur: limit.Soft, Max: limit.Hard}, nil); err != nil {
			return fmt.Errorf("limit %s: %w", limit.Type, err)
		}
	}
	granted := process.Capabilities
	if granted == nil {
		granted = &specs.LinuxCapabilities{}
	}
	bounding, err := mask(granted.Bounding)
	if err != nil {
		return err
	}
	for number := range capabilities {
		if bounding&(1<<number) == 0 {
			// EINVAL: a kernel that does not know so new a capability
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0); err != nil && err != unix.EINVAL {
				return err
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := identity(process.User); err != nil {
		return err
	}
	if err := grant(granted); err != nil {
		return err
	}
	if process.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	if process.User.Umask != nil {
		unix.Umask(int(*process.User.Umask))
	} else {
		unix.Umask(0o022)
	}
	if err := os.MkdirAll(process.Cwd, 0o755); err != nil && !os.IsExist(err) && !os.IsPermission(err) {
		return err
	}
	if err := unix.Chdir(process.Cwd); err != nil {
		return fmt.Errorf("working folder %s: %w", process.Cwd, err)
	}
	err = unix.Exec(program, process.Args, process.Env)
	return fmt.Errorf("%s: %w", process.Args[0], err)
}

// identity is by raw system calls: the library's own change every thread, and wait for all of them.
func identity(user specs.User) error {
	groups := append([]uint32{}, user.AdditionalGids...)
	first := uintptr(0)
	if len(groups) > 0 {
		first = address(&groups[0])
	}
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, uintptr(len(groups)), first, 0},
		{unix.SYS_SETRESGID, uintptr(user.GID), uintptr(user.GID), uintptr(user.GID)},
		{unix.SYS_SETRESUID, uintptr(user.UID), uintptr(user.UID), uintptr(user.UID)},
	} {
		if _, _, number := unix.RawSyscall(call[0], call[1], call[2], call[3]); number != 0 {
			return fmt.Errorf("becoming user %d: %w", user.UID, number)
		}
	}
	return nil
}

func grant(granted *specs.LinuxCapabilities) error {
	var sets [4]uint64
	for at, names := range [][]string{granted.Effective, granted.Permitted, granted.Inheritable, granted.Ambient} {
		var err error
		if sets[at], err = mask(names); err != nil {
			return err
		}
	}
	data := [2]unix.CapUserData{}
	for half := range data {
		shift := 32 * half
		data[half] = unix.CapUserData{
			Effective: uint32(sets[0] >> shift), Permitted: uint32(sets[1] >> shift), Inheritable: uint32(sets[2] >> shift),
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for number := range capabilities {
		if sets[3]&(1<<number) != 0 {
			if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(number), 0, 0); err != nil {
				return fmt.Errorf("ambient %s: %w", capabilities[number], err)
			}
		}
	}
	return nil
}

func mask(names []string) (uint64, error) {
	var set uint64
next:
	for _, name := range names {
		for number, known := range capabilities {
			if name == "CAP_"+known {
				set |= 1 << number
				continue next
			}
		}
		return 0, fmt.Errorf("capability %s is not known", name)
	}
	return set, nil
}
