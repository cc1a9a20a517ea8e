// Package wire is what the stand-in shim and its agent in the guest say to each other.
//
// Each connection carries one request and one answer, both framed as a length and JSON. A connection that asked for a
// stream then carries the stream's bytes. Genuine Kata speaks ttrpc over the same vsock port.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const (
	// Port is where the agent listens, the genuine agent's own.
	Port = 1024
	// Share is where the guest mounts what the node shares, as in genuine Kata.
	Share = "/run/kata-containers/shared/containers"
	// Tag names the shared file system.
	Tag = "kataShared"

	maxFrame = 8 << 20
)

// What a request asks for.
const (
	Sandbox   = "sandbox"
	Interface = "interface"
	Create    = "create"
	Exec      = "exec"
	Start     = "start"
	Stream    = "stream"
	Wait      = "wait"
	Signal    = "signal"
	Resize    = "resize"
	Remove    = "remove"
)

// Request names a process by its container and, but for the container's first, its exec id.
type Request struct {
	Do        string
	Container string         `json:",omitempty"`
	Exec      string         `json:",omitempty"`
	Hostname  string         `json:",omitempty"`
	Spec      *specs.Spec    `json:",omitempty"`
	Process   *specs.Process `json:",omitempty"`
	Stream    string         `json:",omitempty"`
	Signal    int            `json:",omitempty"`
	Width     uint32         `json:",omitempty"`
	Height    uint32         `json:",omitempty"`
	Link      *Link          `json:",omitempty"`
}

// Link is a container's network interface as it was seen in its network namespace on the node.
type Link struct {
	Name      string
	MAC       string
	MTU       int
	Addresses []string
	Routes    []Route
}

// Route has an empty Destination for the default route.
type Route struct {
	Destination string
	Gateway     string
	Source      string
	Scope       uint8
}

// Answer is an error's words, or what was asked for.
type Answer struct {
	Error string `json:",omitempty"`
	Exit  int    `json:",omitempty"`
}

// Write sends a request or an answer.
func Write(to io.Writer, message any) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(data) > maxFrame {
		return fmt.Errorf("a message of %d bytes is too long", len(data))
	}
	_, err = to.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// Read receives a request or an answer.
func Read(from io.Reader, message any) error {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size > maxFrame {
		return errors.New("the other side does not speak this protocol")
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(from, data); err != nil {
		return err
	}
	return json.Unmarshal(data, message)
}

// Conn is a vsock connection.
type Conn struct{ *os.File }

// NewConn takes over a connected socket.
func NewConn(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Conn{os.NewFile(uintptr(fd), "vsock")}, nil
}

// CloseWrite tells the other side that no more bytes come.
func (c *Conn) CloseWrite() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Shutdown(int(fd), unix.SHUT_WR) }); err != nil {
		return err
	}
	return failed
}
