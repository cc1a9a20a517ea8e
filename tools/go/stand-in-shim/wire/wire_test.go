package wire

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
)

// pair is a connection over a serial port, as both ends have it.
func pair(t *testing.T) (Conn, Conn) {
	t.Helper()
	one, other := net.Pipe()
	shim, err := yamux.Client(one, Multiplexing(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	agent, err := yamux.Server(other, Multiplexing(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shim.Close(); agent.Close() })
	asking, err := shim.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	answering, err := agent.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	return NewStream(asking), NewStream(answering)
}

func TestTheOtherSideReadsTheEndAndStillAnswers(t *testing.T) {
	asking, answering := pair(t)
	if err := Write(asking, Request{Do: Wait}); err != nil {
		t.Fatal(err)
	}
	if err := asking.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var request Request
	if err := Read(answering, &request); err != nil || request.Do != Wait {
		t.Fatal(request, err)
	}
	if rest, err := io.ReadAll(answering); err != nil || len(rest) != 0 {
		t.Fatal(rest, err)
	}
	if err := Write(answering, Answer{Exit: 7}); err != nil {
		t.Fatal(err)
	}
	var answer Answer
	if err := Read(asking, &answer); err != nil || answer.Exit != 7 {
		t.Fatal(answer, err)
	}
}

func TestAnAgentThatHangsIsToldByTheDeadline(t *testing.T) {
	asking, _ := pair(t)
	if err := asking.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var answer Answer
	if err := Read(asking, &answer); !TimedOut(err) {
		t.Fatal(err)
	}
}
