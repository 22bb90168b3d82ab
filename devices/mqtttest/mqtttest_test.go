package mqtttest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 10 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv("MQTTTEST_CHILD"); dir != "" {
		child(dir)
	}
	os.Exit(m.Run())
}

// child starts a broker, tells its process number and waits to be killed.
func child(dir string) {
	b, err := New(dir, Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(b.PID())
	io.ReadAll(os.Stdin)
	os.Exit(0)
}

func TestBrokerDiesWithItsParent(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MQTTTEST_CHILD="+t.TempDir())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if _, scan := fmt.Sscan(line, &pid); scan != nil {
		t.Fatalf("child says %q, %v", line, err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("broker %d does not run: %v", pid, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, "the broker is gone", func() bool { return gone(pid) })
}

// gone reports whether a process has ended, though perhaps nobody has asked for
// its exit code yet.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestBrokerComesBackOnItsPort(t *testing.T) {
	b := Start(t, Options{Persistent: true, MaxInflight: 5, MaxQueued: -1, NoDelay: true, Users: map[string]string{"a": "b"}, ACL: "user a\ntopic #\n"})
	address, first := b.Addr(), b.PID()
	for _, end := range []func(){b.Kill, b.Stop} {
		end()
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			t.Error("the broker accepts connections after its end")
		}
		if err := b.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	if b.Addr() != address || b.PID() == first {
		t.Errorf("process %d on %s, want another than %d on %s", b.PID(), b.Addr(), first, address)
	}
}

func TestBrokerThatDoesNotStartSaysWhy(t *testing.T) {
	_, err := New(t.TempDir(), Options{Config: "no_such_setting true"})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("New = %v, want mosquitto's complaint", err)
	}
}

func TestMissingProgramNamesTheRemedy(t *testing.T) {
	_, err := find("no-such-program")
	if err == nil || !strings.Contains(err.Error(), "make test") {
		t.Errorf("find = %v, want it to name make test", err)
	}
}

// echo listens and sends back what it reads, until the test ends.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(conn, conn) // ends with the connection
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func roundTrip(conn net.Conn, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("read %q, want %q", got, text)
	}
	return nil
}

func TestProxyCarriesUntilCut(t *testing.T) {
	p := StartProxy(t, echo(t))
	conn := dial(t, p)
	if err := roundTrip(conn, "hello"); err != nil {
		t.Error(err)
	}
	p.Cut()
	if err := roundTrip(conn, "hello"); err == nil {
		t.Error("a cut connection still carries")
	}
	if err := roundTrip(dial(t, p), "hello"); err != nil {
		t.Errorf("after a cut, a new connection: %v", err)
	}
}

func TestSilentProxyTellsNobody(t *testing.T) {
	for _, directions := range [][]Direction{nil, {ToTarget}, {FromTarget}} {
		p := StartProxy(t, echo(t))
		conn := dial(t, p)
		if err := roundTrip(conn, "before"); err != nil {
			t.Fatal(err)
		}
		p.Silence(directions...)
		if _, err := io.WriteString(conn, "after"); err != nil {
			t.Errorf("write to a silent link = %v, want nil", err)
		}
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read from a silent link = %v, want nothing", err)
		}
		p.Heal()
		conn.SetReadDeadline(time.Now().Add(patience))
		got := make([]byte, 5)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "after" {
			t.Errorf("after healing read %q, %v, want what was held back", got, err)
		}
	}
}

func TestSilentProxyHidesTheEndOfAnEnd(t *testing.T) {
	p := StartProxy(t, echo(t))
	conn := dial(t, p)
	if err := roundTrip(conn, "x"); err != nil {
		t.Fatal(err)
	}
	p.Silence()
	conn.(*net.TCPConn).CloseWrite()
	conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read = %v, want nothing", err)
	}
	if got := p.Connections(); got != 1 {
		t.Errorf("%d connections are carried, want 1", got)
	}
}

func TestDelayedProxyIsLate(t *testing.T) {
	p := StartProxy(t, echo(t))
	p.Delay(30 * time.Millisecond)
	began := time.Now()
	if err := roundTrip(dial(t, p), "x"); err != nil {
		t.Fatal(err)
	}
	if got, want := time.Since(began), 60*time.Millisecond; got < want {
		t.Errorf("a round trip took %v, want at least %v", got, want)
	}
}

func TestRefusingProxyKeepsWhatIsThere(t *testing.T) {
	p := StartProxy(t, echo(t))
	old := dial(t, p)
	if err := roundTrip(old, "x"); err != nil {
		t.Fatal(err)
	}
	p.Refuse()
	if err := roundTrip(dial(t, p), "x"); err == nil {
		t.Error("a new connection is carried, want it refused")
	}
	if err := roundTrip(old, "x"); err != nil {
		t.Errorf("the old connection: %v", err)
	}
	p.Heal()
	if err := roundTrip(dial(t, p), "x"); err != nil {
		t.Errorf("after healing: %v", err)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !holds(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}
