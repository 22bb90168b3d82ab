package ledgertest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	startTimeout = time.Minute
	owner        = "sedge" // of the databases
)

// A Postgres is a running PostgreSQL, Debian's, with a cluster of its own. It is a
// child process on a unix socket, and dies with its parent. Its methods may be called
// from several goroutines.
type Postgres struct {
	dir     string
	process *os.Process
	exited  chan struct{}
	made    atomic.Int64 // databases
}

// StartPostgres starts a PostgreSQL and returns once it accepts connections. The
// caller ends it by Stop. A missing PostgreSQL is an error, never a reason to skip.
func StartPostgres() (*Postgres, error) {
	dir, err := os.MkdirTemp("", "sedge-pg-")
	if err != nil {
		return nil, err
	}
	p := &Postgres{dir: dir}
	if err := p.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), os.RemoveAll(dir))
	}
	return p, nil
}

func (p *Postgres) start() error {
	as, err := servant()
	if err != nil {
		return err
	}
	if as != nil {
		if err := os.Chown(p.dir, int(as.Uid), int(as.Gid)); err != nil {
			return err
		}
	}
	// Text is sorted as in a dictionary unless a column says otherwise.
	initdb, err := p.command("initdb", "-D", "data", "-U", owner, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
		"--locale-provider=icu", "--icu-locale=en-US", "--no-sync", "--no-instructions")
	if err != nil {
		return err
	}
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	// Power cuts are not what is tested here.
	server, err := p.command("postgres", "-D", "data", "-k", p.dir, "-c", "listen_addresses=", "-c", "fsync=off")
	if err != nil {
		return err
	}
	server.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGINT}
	log, err := os.Create(p.log())
	if err != nil {
		return err
	}
	defer log.Close()
	server.Stdout, server.Stderr = log, log
	if err := p.spawn(server); err != nil {
		return err
	}
	return p.awaitReady()
}

// servant returns whom the server runs as: PostgreSQL refuses to be root.
func servant() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, missing("postgres")
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// command returns a command of the newest PostgreSQL that Debian has installed, whose
// programs are in nobody's path.
func (p *Postgres) command(name string, args ...string) (*exec.Cmd, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, missing(name)
	}
	cmd := exec.Command(slices.Max(found), args...)
	cmd.Dir = p.dir
	return cmd, nil
}

func missing(name string) error {
	return errors.New(name + " is not installed: \"make test\" installs it from Debian")
}

// spawn starts cmd from a thread that lives as long as the child: the death
// signal is sent when the thread that started it ends, not the process.
func (p *Postgres) spawn(cmd *exec.Cmd) error {
	started, exited := make(chan error), make(chan struct{})
	go func() { // Stop waits for it
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
		return err
	}
	p.process, p.exited = cmd.Process, exited
	return nil
}

func (p *Postgres) awaitReady() error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(startTimeout)
	for {
		ask, err := p.command("pg_isready", "-q", "-h", p.dir)
		if err != nil {
			return err
		}
		if ask.Run() == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("it ended at once: %s", p.Log())
		case <-late:
			p.end()
			return fmt.Errorf("it accepts no connections after %s: %s", startTimeout, p.Log())
		}
	}
}

func (p *Postgres) log() string { return filepath.Join(p.dir, "postgres.log") }

// Log returns what the server has logged.
func (p *Postgres) Log() string {
	text, err := os.ReadFile(p.log())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Database makes a database for the test, and returns what it is dialled by.
func (p *Postgres) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("hub%d", p.made.Add(1))
	create, err := p.command("createdb", "-h", p.dir, "-U", owner, name)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("createdb: %v: %s", err, out)
	}
	return "postgres://" + owner + "@/" + name + "?host=" + url.QueryEscape(p.dir)
}

// Stop ends the server, and returns when it is gone with all that it kept.
func (p *Postgres) Stop() error {
	p.end()
	return os.RemoveAll(p.dir)
}

func (p *Postgres) end() {
	p.process.Signal(syscall.SIGINT) // without waiting for clients; fails only if it is gone already
	<-p.exited
}
