package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stand-in-shim/wire"
)

const tapName = "tap0_kata"

// rescanTime is how long a network is waited for that Docker makes after the container's start (Docker 26.0.0, and from 28).
const rescanTime = 10 * time.Second

// networkNamespace says whether the container has a network namespace of its own, and the path of one that is there already.
func networkNamespace(spec *specs.Spec) (own bool, path string) {
	for _, namespace := range spec.Linux.Namespaces {
		if namespace.Type == specs.NetworkNamespace {
			return true, namespace.Path
		}
	}
	return false, ""
}

// enterNetwork moves the calling thread, which stays locked, into the container's network namespace.
func enterNetwork(path string) error {
	runtime.LockOSThread()
	if path == "" {
		return unix.Unshare(unix.CLONE_NEWNET)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
}

// runHooks tells Docker's hooks of the thread whose network namespace is the container's (katautils/hook.go).
func runHooks(spec *specs.Spec, id, bundle string) error {
	if spec.Hooks == nil {
		return nil
	}
	state, err := json.Marshal(specs.State{Pid: unix.Gettid(), Bundle: bundle, ID: id, Annotations: spec.Annotations})
	if err != nil {
		return err
	}
	for _, hook := range append(spec.Hooks.Prestart, spec.Hooks.CreateRuntime...) { //nolint // Docker uses prestart
		var said bytes.Buffer
		cmd := exec.Cmd{
			Path: hook.Path, Args: hook.Args, Env: hook.Env, Stdin: bytes.NewReader(state), Stdout: &said, Stderr: &said,
		}
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("hook %s: %w: %s", hook.Path, err, said.String())
		}
	}
	return nil
}

// openTap makes the tap device in the calling thread's network namespace.
func openTap() (*os.File, error) {
	file, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(tapName)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(int(file.Fd()), unix.TUNSETIFF, request)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("making a tap device: %w", err)
	}
	return file, nil
}

// joinTap redirects between the container's interface and the tap, both ways, and says what the guest is to have; nil when
// there is no interface yet. Of several interfaces the first is taken.
func joinTap() (*wire.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	tap, err := netlink.LinkByName(tapName)
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		attributes := link.Attrs()
		if link.Type() != "veth" || attributes.Flags&net.FlagUp == 0 {
			continue
		}
		seen, err := describe(link)
		if err != nil || len(seen.Addresses) == 0 {
			return nil, err
		}
		if err := netlink.LinkSetMTU(tap, attributes.MTU); err != nil {
			return nil, err
		}
		if err := netlink.LinkSetUp(tap); err != nil {
			return nil, err
		}
		if err := redirect(link, tap); err != nil {
			return nil, err
		}
		return seen, redirect(tap, link)
	}
	return nil, nil
}

func describe(link netlink.Link) (*wire.Link, error) {
	attributes := link.Attrs()
	seen := &wire.Link{Name: attributes.Name, MAC: attributes.HardwareAddr.String(), MTU: attributes.MTU}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	for _, address := range addresses {
		seen.Addresses = append(seen.Addresses, address.IPNet.String())
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	for _, route := range routes {
		if route.Protocol == unix.RTPROT_KERNEL { // comes with the address
			continue
		}
		entry := wire.Route{Scope: uint8(route.Scope)}
		if ones, _ := maskSize(route.Dst); ones > 0 {
			entry.Destination = route.Dst.String()
		}
		if route.Gw != nil {
			entry.Gateway = route.Gw.String()
		}
		if route.Src != nil {
			entry.Source = route.Src.String()
		}
		// Those without a gateway first: the others are reached by them.
		if entry.Gateway == "" {
			seen.Routes = append([]wire.Route{entry}, seen.Routes...)
		} else {
			seen.Routes = append(seen.Routes, entry)
		}
	}
	return seen, nil
}

func maskSize(network *net.IPNet) (int, int) {
	if network == nil {
		return 0, 0
	}
	return network.Mask.Size()
}

// redirect is Kata's `tcfilter`: all that comes in at one device goes out at the other.
func redirect(from, to netlink.Link) error {
	qdisc := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: from.Attrs().Index, Parent: netlink.HANDLE_INGRESS}}
	if err := netlink.QdiscAdd(qdisc); err != nil {
		return fmt.Errorf("traffic control of %s: %w", from.Attrs().Name, err)
	}
	filter := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: from.Attrs().Index, Parent: netlink.MakeHandle(0xffff, 0), Protocol: unix.ETH_P_ALL,
		},
		Actions: []netlink.Action{&netlink.MirredAction{
			ActionAttrs:  netlink.ActionAttrs{Action: netlink.TC_ACT_STOLEN},
			MirredAction: netlink.TCA_EGRESS_REDIR,
			Ifindex:      to.Attrs().Index,
		}},
	}
	if err := netlink.FilterAdd(filter); err != nil {
		return fmt.Errorf("traffic control of %s: %w", from.Attrs().Name, err)
	}
	return nil
}
