package keeper

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
	"github.com/sedge-iot/sedge/functions/runner/javascript"
)

// patience is how long a test waits for what must come, on however slow a machine.
const patience = time.Minute

// TestMain is also the program of the pods here, and of what runs in them.
func TestMain(m *testing.M) {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	var err error
	switch verb {
	case "keep": // ADDRESS VERB
		err = Main(context.Background(), os.Args[2], []string{"/proc/self/exe", os.Args[3]})
	case "runner":
		err = runner.Main(context.Background(), os.NewFile(3, "keeper"), map[string]runner.Engine{"javascript": javascript.New()})
	case "spy":
		err = spy(os.NewFile(3, "keeper"))
	default:
		os.Exit(m.Run())
	}
	if e, ok := errors.AsType[*Ended](err); ok {
		fmt.Fprintln(os.Stderr, e)
		os.Exit(e.Status)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A pod is a keeper that runs, without privileges.
type pod struct {
	cmd     *exec.Cmd
	address string
	agent   []byte // seed
	keeper  []byte // seed
	stderr  bytes.Buffer
}

func seed() []byte {
	b := make([]byte, SeedSize)
	rand.Read(b)
	return b
}

// open starts a pod whose workers are the verb of TestMain.
func open(t *testing.T, verb string) *pod {
	t.Helper()
	p := &pod{agent: seed(), keeper: seed(), address: freeAddress(t)}
	p.cmd = exec.Command("/proc/self/exe", "keep", p.address, verb)
	p.cmd.Env = []string{SeedVariable + "=" + hex.EncodeToString(p.keeper), AgentVariable + "=" + hex.EncodeToString(Public(p.agent))}
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 123456, Gid: 123456}
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

// freeAddress returns one on which nobody listens just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// dial connects with the key of seed once the keeper listens.
func (p *pod) dial(t *testing.T, agent []byte, keeper []byte) (*tls.Conn, error) {
	t.Helper()
	settings, err := Client(agent, Public(keeper))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		c, err := tls.Dial("tcp", p.address, settings)
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(deadline) {
			return c, err
		}
		<-time.After(5 * time.Millisecond)
	}
}

// wait waits for the keeper's end.
func (p *pod) wait(t *testing.T) {
	t.Helper()
	defer time.AfterFunc(patience, func() { p.cmd.Process.Kill() }).Stop()
	p.cmd.Wait()
}

func (p *pod) connect(t *testing.T) *tls.Conn {
	t.Helper()
	c, err := p.dial(t, p.agent, p.keeper)
	if err != nil {
		t.Fatalf("%v\n%s", err, &p.stderr)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// outcomes is a functions.Run that hands its outcome on.
type outcomes chan functions.Outcome

func (c outcomes) Get(string) ([]byte, error)        { return nil, nil }
func (c outcomes) Peek(string) ([]byte, error)       { return nil, nil }
func (c outcomes) Publish(devices.Publication) error { return nil }
func (c outcomes) Log(functions.Level, string)       {}
func (c outcomes) Done(o functions.Outcome)          { c <- o }

// load connects and loads code, whose result it returns with the link.
func (p *pod) load(t *testing.T, code string) (*runner.Link, string) {
	t.Helper()
	l := runner.NewLink(p.connect(t))
	ran := make(chan struct{})
	go func() { // awaited by the cleanup
		defer close(ran)
		l.Run()
		l.End(&functions.Failure{Code: functions.CodeDied, Message: "ended"})
	}()
	t.Cleanup(func() {
		l.Close()
		<-ran
	})
	src := runner.Source{Runtime: "javascript", Name: "kept", Code: code, Timeout: patience, Concurrency: 1, Memory: 64 << 20}
	if err := l.Load(t.Context(), src); err != nil {
		t.Fatalf("%v\n%s", err, &p.stderr)
	}
	return l, invoke(t, l)
}

func invoke(t *testing.T, l *runner.Link) string {
	t.Helper()
	out := make(outcomes, 1)
	l.Invoke(functions.Invocation{ID: "i", Attempt: 1, Timeout: patience, Event: devices.Event{ID: "e", Source: devices.MQTT, Topic: "a", Time: time.Now(), Payload: []byte("1")}}, out)
	select {
	case o := <-out:
		if o.Err != nil {
			return o.Err.Error()
		}
		return string(o.Returned)
	case <-time.After(patience):
		t.Fatal("no outcome came")
		return ""
	}
}

func TestAnAgentRunsAFunctionThroughIt(t *testing.T) {
	p := open(t, "runner")
	if _, got := p.load(t, "export default (e) => e.payload + 41"); got != "42" {
		t.Errorf("got %s, want 42", got)
	}
}

func TestANewAgentReplacesTheOldOne(t *testing.T) {
	p := open(t, "runner")
	old, got := p.load(t, "export default () => 'old'")
	_, again := p.load(t, "export default () => 'new'")
	if got != `"old"` || again != `"new"` {
		t.Errorf("got %s and %s", got, again)
	}
	if got := invoke(t, old); got != "ended" {
		t.Errorf("the old one still answers: %s", got)
	}
}

func TestStrangersAreTurnedAway(t *testing.T) {
	p := open(t, "runner")
	c, err := p.dial(t, seed(), p.keeper)
	if err == nil { // TLS 1.3: the client hears of it when it reads
		c.SetReadDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an agent with another key: %v", err)
	}
	if _, err := p.dial(t, p.agent, seed()); !errors.Is(err, ErrStranger) {
		t.Errorf("a keeper with another key: %v", err)
	}
	settings := &tls.Config{InsecureSkipVerify: true}
	if c, err = tls.Dial("tcp", p.address, settings); err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil {
		t.Error("one without a key was let in")
	}
	if _, got := p.load(t, "export default () => 1"); got != "1" {
		t.Errorf("after them its agent got %s", got)
	}
}

// A sighting is what a spy saw.
type sighting struct {
	PID, Keeper             int
	Environ, Mem, Ptrace    string // of the keeper: what came of looking
	Self                    string // its own environment
	Orphan                  int    // a process that it left behind
	KeeperEnv, KeeperStatus string
}

// spy is a worker that looks around, tells what it saw, and goes on when told to.
func spy(agent *os.File) error {
	keeper := os.Getppid()
	s := sighting{PID: os.Getpid(), Keeper: keeper}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", keeper))
	s.Environ, s.KeeperEnv = fmt.Sprint(err), string(environ)
	_, err = os.Open(fmt.Sprintf("/proc/%d/mem", keeper))
	s.Mem = fmt.Sprint(err)
	s.Ptrace = fmt.Sprint(unix.PtraceSeize(keeper))
	own, _ := os.ReadFile("/proc/self/environ")
	s.Self = string(own)
	sleeper := exec.Command("/bin/sleep", "1000")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: syscall.Getpgrp()}
	if err := sleeper.Start(); err != nil {
		return err
	}
	s.Orphan = sleeper.Process.Pid
	if err := json.NewEncoder(agent).Encode(s); err != nil {
		return err
	}
	_, err = agent.Read(make([]byte, 1))
	if err == nil {
		return errors.New("it was told to")
	}
	if err == io.EOF {
		select {} // a worker that does not go when it is let go
	}
	return err
}

func see(t *testing.T, c net.Conn) (s sighting) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAWorkerCannotLookIntoItsKeeper(t *testing.T) {
	p := open(t, "spy")
	s := see(t, p.connect(t))
	if s.Keeper != p.cmd.Process.Pid {
		t.Fatalf("the spy is a child of %d, the keeper is %d", s.Keeper, p.cmd.Process.Pid)
	}
	for what, got := range map[string]string{"environ": s.Environ, "mem": s.Mem, "ptrace": s.Ptrace} {
		if !strings.Contains(got, "permission denied") && !strings.Contains(got, "operation not permitted") {
			t.Errorf("%s of the keeper: %s", what, got)
		}
	}
	if s.Self != "" {
		t.Errorf("its own environment is %q", s.Self)
	}
	if os.Getuid() != 0 {
		return // only root can look where the worker could not
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.Keeper))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte(hex.EncodeToString(p.keeper))) || bytes.Contains(b, []byte(SeedVariable)) {
		t.Errorf("the keeper's environment shows the seed: %q", b)
	}
}

func TestNothingIsLeftForTheNextAgent(t *testing.T) {
	p := open(t, "spy")
	c := p.connect(t)
	first := see(t, c)
	c.Close()
	second := see(t, p.connect(t))
	if first.PID == second.PID {
		t.Errorf("both agents had worker %d", first.PID)
	}
	for what, pid := range map[string]int{"worker": first.PID, "its child": first.Orphan} {
		if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil && !gone(pid) {
			t.Errorf("%s is still there", what)
		}
	}
}

// gone waits for the end of a process, and its reaping.
func gone(pid int) bool {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			return true
		}
		<-time.After(5 * time.Millisecond)
	}
	return false
}

func TestAKeeperEndsWithItsWorker(t *testing.T) {
	t.Run("that fails", func(t *testing.T) {
		p := open(t, "spy")
		c := p.connect(t)
		see(t, c)
		c.Write([]byte("go"))
		p.wait(t)
		if got := p.cmd.ProcessState.ExitCode(); got != 1 {
			t.Errorf("its status is %d, want 1", got)
		}
		if got := p.stderr.String(); !strings.HasSuffix(got, "runner ended: exit status 1: it was told to\n") {
			t.Errorf("it said %q", got)
		}
	})
	t.Run("that is killed", func(t *testing.T) {
		p := open(t, "spy")
		s := see(t, p.connect(t))
		syscall.Kill(s.PID, syscall.SIGKILL)
		p.wait(t)
		if got := p.cmd.ProcessState.ExitCode(); got != 137 {
			t.Errorf("its status is %d, want 137", got)
		}
		if got := p.stderr.String(); got != "runner ended: signal: killed\n" {
			t.Errorf("it said %q", got)
		}
		if !gone(s.Orphan) {
			t.Error("what its worker started is left")
		}
	})
	t.Run("before an agent came", func(t *testing.T) {
		p := open(t, "-no-such-flag") // which the test program refuses
		p.wait(t)
		if got := p.cmd.ProcessState.ExitCode(); got == 0 {
			t.Error("its status is 0")
		}
	})
}

func TestAKeeperWithoutAnIdentitySaysSo(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "keep", "127.0.0.1:0", "runner")
	cmd.Env = []string{SeedVariable + "=abcd"}
	out, err := cmd.CombinedOutput()
	if want := "SEDGE_KEEPER_SEED does not hold 32 bytes in hexadecimal digits\n"; err == nil || string(out) != want {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
}
