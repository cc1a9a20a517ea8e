package main

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"

	"stand-in-shim/wire"
)

const deviceWait = 5 * time.Second

func loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// join makes the guest's only network device what the container's interface is on the node.
func join(drivers [][]byte, want *wire.Link) error {
	if err := load(drivers); err != nil {
		return err
	}
	link, err := device()
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(want.MAC)
	if err != nil {
		return err
	}
	if err := errors.Join(
		netlink.LinkSetName(link, want.Name),
		netlink.LinkSetHardwareAddr(link, mac),
		netlink.LinkSetMTU(link, want.MTU),
		netlink.LinkSetUp(link),
	); err != nil {
		return err
	}
	for _, text := range want.Addresses {
		address, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if err := netlink.AddrReplace(link, address); err != nil {
			return fmt.Errorf("address %s: %w", text, err)
		}
	}
	for _, route := range want.Routes {
		entry := netlink.Route{
			LinkIndex: link.Attrs().Index,
			Gw:        net.ParseIP(route.Gateway),
			Src:       net.ParseIP(route.Source),
			Scope:     netlink.Scope(route.Scope),
		}
		if route.Destination != "" {
			if _, entry.Dst, err = net.ParseCIDR(route.Destination); err != nil {
				return err
			}
		}
		if err := netlink.RouteReplace(&entry); err != nil {
			return fmt.Errorf("route to %q by %q: %w", route.Destination, route.Gateway, err)
		}
	}
	return nil
}

func device() (netlink.Link, error) {
	for begin := time.Now(); time.Since(begin) < deviceWait; time.Sleep(10 * time.Millisecond) {
		links, err := netlink.LinkList()
		if err != nil {
			return nil, err
		}
		for _, link := range links {
			if link.Attrs().Flags&net.FlagLoopback == 0 && link.Type() == "device" {
				return link, nil
			}
		}
	}
	return nil, errors.New("the guest has no network device")
}
