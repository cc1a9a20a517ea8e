package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"stand-in-shim/wire"
)

// share puts a container's root and what is bound into it under the folder that the guest mounts, and rewrites the
// specification for the guest. /dev/shm becomes the guest's own, and sources below /dev, /proc and /sys mean the guest's.
func (s *sandbox) share(id, root string, spec *specs.Spec) error {
	folder := filepath.Join(shareOf(s.id), id)
	if err := os.MkdirAll(filepath.Join(folder, "rootfs"), 0o755); err != nil {
		return err
	}
	if err := bind(root, filepath.Join(folder, "rootfs")); err != nil {
		return err
	}
	for at := range spec.Mounts {
		one := &spec.Mounts[at]
		bound := one.Type == "bind" || slices.Contains(one.Options, "bind") || slices.Contains(one.Options, "rbind")
		switch {
		case !bound:
			continue
		case one.Destination == "/dev/shm":
			*one = specs.Mount{
				Destination: one.Destination, Type: "tmpfs", Source: "shm",
				Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"},
			}
			continue
		case !slices.Contains(one.Options, "bind") && !slices.Contains(one.Options, "rbind"):
			one.Options = append(one.Options, "bind")
		}
		if strings.HasPrefix(one.Source, "/dev/") || strings.HasPrefix(one.Source, "/proc/") ||
			strings.HasPrefix(one.Source, "/sys/") {
			continue
		}
		name := fmt.Sprintf("mount-%d", at)
		if err := bind(one.Source, filepath.Join(folder, name)); err != nil {
			return err
		}
		one.Source = filepath.Join(wire.Share, id, name)
	}
	spec.Hooks, spec.Linux.Seccomp, spec.Linux.Resources = nil, nil, nil
	return nil
}

func bind(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("sharing %s with the guest: %w", source, err)
	}
	// What the guest mounts or loses there stays there.
	return unix.Mount("", target, "", unix.MS_PRIVATE|unix.MS_REC, "")
}

func (s *sandbox) unshare(id string) error {
	return removeMounted(filepath.Join(shareOf(s.id), filepath.Base(id)))
}

// removeMounted takes away the mounts below a folder and then the folder; while a mount is left, nothing is removed, since
// that would be the container's files.
func removeMounted(folder string) error {
	for range 10 {
		below, err := mountsBelow(folder)
		if err != nil {
			return err
		}
		if len(below) == 0 {
			return os.RemoveAll(folder)
		}
		for _, path := range below {
			if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
				return fmt.Errorf("unmounting %s: %w", path, err)
			}
		}
	}
	return errors.New("mounts stay below " + folder)
}

// mountsBelow has the deepest first.
func mountsBelow(folder string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var below []string
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], folder+"/") {
			below = append(below, fields[4])
		}
	}
	slices.Reverse(below)
	return below, nil
}
