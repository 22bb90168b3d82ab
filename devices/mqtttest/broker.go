// Package mqtttest gives tests and benchmarks a real broker, Debian's
// mosquitto, and a link to it that can be broken at will.
//
// A [Broker] is a child process on loopback that dies with its parent; a
// [Proxy] stands between a client and the broker and cuts, silences, slows or
// refuses; an [Authority] issues the certificates for TLS. Functions that take
// a testing.TB fail the test where the others return an error: a missing
// mosquitto is never a reason to skip.
package mqtttest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Options say how a broker is set up. The zero Options is mosquitto as it
// comes, open to everyone on loopback.
type Options struct {
	Persistent  bool              // sessions and messages survive Kill: each change is saved at once
	MaxInflight int               // messages sent but not acknowledged, per client; -1: no limit; 0: mosquitto's default
	MaxQueued   int               // messages kept for an absent client; -1: no limit; 0: mosquitto's default
	NoDelay     bool              // set TCP_NODELAY
	Users       map[string]string // name to password; others are refused
	ACL         string            // the content of an ACL file
	TLS         *Authority        // speak TLS with a certificate of this authority
	ClientCerts bool              // with TLS: ask clients for a certificate of the same authority
	Config      string            // more lines of mosquitto.conf
}

// A Broker is a running mosquitto. Its methods are not for several goroutines
// at a time.
type Broker struct {
	dir     string
	address string
	scheme  string
	process *os.Process
	exited  chan struct{} // closed when the process is gone
}

const startTimeout = 10 * time.Second

// Start starts a broker that ends with the test.
func Start(t testing.TB, o Options) *Broker {
	t.Helper()
	b, err := New(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Kill()
		if t.Failed() {
			log := b.Log()
			t.Logf("the end of the broker's log:\n%s", log[max(0, len(log)-4096):])
		}
	})
	return b
}

// New starts a broker that keeps its files in dir, on a port that the kernel
// chooses, and returns once it accepts connections. The caller ends it by Kill.
func New(dir string, o Options) (*Broker, error) {
	b := &Broker{dir: dir, scheme: "mqtt"}
	if o.TLS != nil {
		b.scheme = "mqtts"
	}
	if err := b.configure(o); err != nil {
		return nil, fmt.Errorf("set up mosquitto: %w", err)
	}
	var err error
	for range 3 { // between the choice of the port and its use, another may take it
		if b.address, err = freeAddress(); err != nil {
			return nil, err
		}
		if err = b.start(); err == nil {
			return b, nil
		}
	}
	return nil, err
}

// Addr returns the broker's host:port.
func (b *Broker) Addr() string { return b.address }

// URL returns the broker's address as mqtt:// or mqtts://.
func (b *Broker) URL() string { return b.scheme + "://" + b.address }

// Log returns what the broker has logged.
func (b *Broker) Log() string {
	text, err := os.ReadFile(b.file("mosquitto.log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// PID returns the number of the broker's process.
func (b *Broker) PID() int { return b.process.Pid }

// Kill ends the broker by SIGKILL, as a power cut would, and returns when it is
// gone.
func (b *Broker) Kill() {
	b.process.Kill() // fails only if it is gone already
	<-b.exited
}

// Stop ends the broker by SIGTERM, so that it saves what it keeps, and returns
// when it is gone. A mosquitto that has only just begun to listen may forget a
// signal, so that Stop repeats it.
func (b *Broker) Stop() {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		b.process.Signal(syscall.SIGTERM)
		select {
		case <-b.exited:
			return
		case <-again.C:
		}
	}
}

// Restart starts the broker again on the same port, after Kill or Stop.
func (b *Broker) Restart() error { return b.start() }

func (b *Broker) file(name string) string { return filepath.Join(b.dir, name) }

// start starts the process and waits until it accepts connections.
func (b *Broker) start() error {
	program, err := find("mosquitto")
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(b.address)
	conf, err := os.ReadFile(b.file("mosquitto.conf"))
	if err != nil {
		return err
	}
	with := "listener " + port + " 127.0.0.1\n" + string(conf) // the listener comes before its TLS settings
	if err := os.WriteFile(b.file("run.conf"), []byte(with), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(b.file("mosquitto.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, "-v", "-c", b.file("run.conf"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.spawn(cmd); err != nil {
		return err
	}
	return b.awaitListening()
}

// spawn starts cmd from a thread that lives as long as the child: the death
// signal is sent when the thread that started it ends, not the process.
func (b *Broker) spawn(cmd *exec.Cmd) error {
	started, exited := make(chan error), make(chan struct{})
	go func() { // Kill and Stop wait for it
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start mosquitto: %w", err)
	}
	b.process, b.exited = cmd.Process, exited
	return nil
}

func (b *Broker) awaitListening() error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(startTimeout)
	for {
		conn, err := net.Dial("tcp", b.address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-b.exited:
			return fmt.Errorf("mosquitto ended at once: %s", b.Log())
		case <-late:
			b.Kill()
			return fmt.Errorf("mosquitto does not listen on %s: %w", b.address, err)
		}
	}
}

// configure writes the files that mosquitto reads, all but the listener's line.
func (b *Broker) configure(o Options) error {
	conf := []string{"persistence " + strconv.FormatBool(o.Persistent), "set_tcp_nodelay " + strconv.FormatBool(o.NoDelay)}
	add := func(key, value string) { conf = append(conf, key+" "+value) }
	limit := func(key string, n int) {
		if n != 0 {
			add(key, strconv.Itoa(max(n, 0)))
		}
	}
	limit("max_inflight_messages", o.MaxInflight)
	limit("max_queued_messages", o.MaxQueued)
	if o.Persistent {
		add("persistence_location", b.dir+"/")
		add("autosave_interval", "1")
		add("autosave_on_changes", "true")
	}
	if os.Getuid() == 0 {
		add("user", "root") // else it becomes a user who cannot read dir
	}
	add("allow_anonymous", strconv.FormatBool(o.Users == nil))
	if o.Users != nil {
		add("password_file", b.file("passwords"))
		if err := b.writePasswords(o.Users); err != nil {
			return err
		}
	}
	if o.ACL != "" {
		add("acl_file", b.file("acl"))
		if err := os.WriteFile(b.file("acl"), []byte(o.ACL), 0o600); err != nil {
			return err
		}
	}
	if o.TLS != nil {
		pair, err := o.TLS.Issue("127.0.0.1")
		if err != nil {
			return err
		}
		add("cafile", o.TLS.CertFile())
		add("certfile", pair.CertFile)
		add("keyfile", pair.KeyFile)
		add("require_certificate", strconv.FormatBool(o.ClientCerts))
	}
	conf = append(conf, o.Config, "")
	return os.WriteFile(b.file("mosquitto.conf"), []byte(strings.Join(conf, "\n")), 0o600)
}

func (b *Broker) writePasswords(users map[string]string) error {
	program, err := find("mosquitto_passwd")
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.file("passwords"), nil, 0o600); err != nil {
		return err
	}
	for name, password := range users {
		if out, err := exec.Command(program, "-b", b.file("passwords"), name, password).CombinedOutput(); err != nil {
			return fmt.Errorf("mosquitto_passwd: %w: %s", err, out)
		}
	}
	return nil
}

// find looks for a program also where an ordinary user's path does not lead.
func find(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", errors.New(name + " is not installed: \"make test\" installs it from Debian")
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
