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
	"time"

	"github.com/hashicorp/yamux"
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
	// Serial names the port of an emulated guest, in the place of vsock: many connections over it, as Kata 1 had them.
	Serial = "stand-in-agent"

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

// Conn is a connection between shim and agent.
type Conn interface {
	io.ReadWriteCloser
	// CloseWrite tells the other side that no more bytes come.
	CloseWrite() error
	SetDeadline(time.Time) error
}

type vsock struct{ *os.File }

// NewConn takes over a connected socket.
func NewConn(fd int) (Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &vsock{os.NewFile(uintptr(fd), "vsock")}, nil
}

func (c *vsock) CloseWrite() error {
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

type stream struct{ *yamux.Stream }

// NewStream is a connection over the serial port.
func NewStream(of *yamux.Stream) Conn { return &stream{of} }

func (s *stream) CloseWrite() error { return s.Stream.Close() }

func (s *stream) Close() error {
	s.SetDeadline(time.Now()) // what is read or written meanwhile ends, as with a socket
	return s.Stream.Close()
}

// Multiplexing has no time-outs but `limit`, that of a write: a guest that hangs is noticed where an answer is waited for.
func Multiplexing(limit time.Duration) *yamux.Config {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive, config.StreamOpenTimeout, config.ConnectionWriteTimeout = false, 0, limit
	config.LogOutput = io.Discard
	return config
}

// TimedOut says whether a connection's deadline passed.
func TimedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, yamux.ErrTimeout)
}
