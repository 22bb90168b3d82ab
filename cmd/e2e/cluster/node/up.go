package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Up starts a keeper and returns when its node is ready to run pods. The program
// that calls it has to call Keep when its first argument is "keep", and Init
// when it is "init". Where ctx ends first, so does the keeper.
func Up(ctx context.Context, o Options) (*Node, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	keeper := exec.Command(self, "keep", string(text))
	keeper.ExtraFiles = []*os.File{w}
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ^C is for the caller, who may outlive it
	err = keeper.Start()
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	defer context.AfterFunc(ctx, func() { keeper.Process.Signal(syscall.SIGTERM) })()
	var a outcome
	if err := json.NewDecoder(r).Decode(&a); err != nil {
		return nil, fmt.Errorf("the keeper died: %w; its log is %s", errors.Join(ctx.Err(), err), filepath.Join(dirOf(o.Name), "log/keeper.log"))
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.Node, nil
}

// downWithin is the longest that Down takes: a machine under load buries slowly.
const downWithin = 30 * time.Second

// Down cuts the node's power and returns when nothing of it is left, but for
// what it kept in a folder of the owner's. That there is none is no error.
func Down(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, downWithin)
	defer cancel()
	if !nameRule.MatchString(name) {
		return fmt.Errorf("no cluster can be called %q", name)
	}
	var l lock
	err := await(ctx, "the keeper", func(context.Context) (err error) {
		l, err = tryLock(name)
		switch {
		case errors.Is(err, errUp):
			endHolder(name)
		case err != nil:
			return hopeless{err}
		}
		return err
	})
	if err != nil {
		return err
	}
	groups, err := hierarchies(name)
	for _, h := range groups {
		err = errors.Join(err, h.remove())
	}
	return errors.Join(err, os.RemoveAll(dirOf(name)), l.remove())
}

// Exec replaces this process by a command within the node: in its network
// alone, so that it sees the host's files and processes, or in all of its
// namespaces. It returns only where that fails.
func Exec(name string, all bool, command []string) error {
	n, err := Find(name)
	if err != nil {
		return err
	}
	enter := []string{"nsenter", "--target=" + strconv.Itoa(n.PID), "--net"}
	env := append(os.Environ(), "KUBECONFIG="+filepath.Join(n.PKI, "admin.kubeconfig"), "NODE_NAME="+n.Name)
	if all { // and with the PATH of the components, so that ctr and crun are there
		wd, err := os.Getwd()
		if err != nil {
			return err
		}
		debs, err := debianRoot()
		if err != nil {
			return err
		}
		enter = append(enter, "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--wd="+wd)
		env = append(env, place{debs: debs}.env()...)
	}
	nsenter, err := exec.LookPath(enter[0])
	if err != nil {
		return err
	}
	env = (&exec.Cmd{Env: env}).Environ() // of two values the later one holds
	return unix.Exec(nsenter, append(append(enter, "--"), command...), env)
}

// Import gives the node's containerd the images of an OCI archive, in the place
// of this process, as Exec does.
func Import(name, archive string) error {
	if _, err := os.Stat(archive); err != nil {
		return err
	}
	return Exec(name, true, importCommand(absolute(archive)))
}
