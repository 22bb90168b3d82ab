package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Keep brings a node up and holds it until ctx ends, the owner ends, the time is
// over or the node dies; it says on tell, once, how the start went. It takes
// everything away again, the logs excepted when the node did not become ready.
func Keep(ctx context.Context, o Options, tell *os.File) error {
	runtime.LockOSThread() // the node is killed with the thread that started it
	k := &keeper{options: o}
	lock, err := tryLock(o.Name)
	if err != nil {
		return say(tell, fmt.Errorf("cluster %s: %w", o.Name, err))
	}
	if err := k.start(ctx); err != nil {
		return say(tell, errors.Join(err, k.clear(), lock.remove()))
	}
	defer lock.remove()
	if err := json.NewEncoder(tell).Encode(outcome{Node: &k.node}); err != nil {
		return errors.Join(fmt.Errorf("tell that it is up: %w", err), k.clear(), os.RemoveAll(k.place.dir))
	}
	tell.Close()
	return errors.Join(k.hold(ctx), k.clear(), os.RemoveAll(k.place.dir))
}

// A keeper has a node.
type keeper struct {
	options Options
	place   place
	groups  []hierarchy
	node    Node

	first    *exec.Cmd     // the node's first process
	ended    chan struct{} // closed when it has
	listener net.Listener
}

func (k *keeper) start(ctx context.Context) error {
	if err := k.prepare(); err != nil {
		return err
	}
	if err := k.begin(ctx); err != nil {
		return err
	}
	return k.introduce()
}

// prepare makes all files, in place of what a keeper that was killed has left.
func (k *keeper) prepare() error {
	p, err := k.options.place()
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return err
	}
	k.place = p
	if k.groups, err = hierarchies(k.options.Name); err != nil {
		return err
	}
	if err := errors.Join(k.clear(), os.RemoveAll(p.dir), os.MkdirAll(p.logs(), 0o755)); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(p.logs(), "keeper.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := unix.Dup3(int(log.Fd()), 2, 0); err != nil {
		return fmt.Errorf("send stderr to the log: %w", err)
	}
	pause, err := os.Create(filepath.Join(p.dir, "pause.tar"))
	if err != nil {
		return err
	}
	defer pause.Close()
	if err := Image(pause, pauseImage, filepath.Join(p.tools, "pause")); err != nil {
		return err
	}
	return makePKI(p.pki, k.options.Name)
}

// begin starts the node's first process and returns when the node is ready.
func (k *keeper) begin(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(k.options)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	k.first = exec.Command(self, "init", string(text))
	k.first.Stderr, k.first.ExtraFiles = os.Stderr, []*os.File{w}
	k.first.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP,
		Pdeathsig:  syscall.SIGKILL, Setsid: true,
	}
	err = within(k.groups, k.first.Start)
	w.Close()
	if err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	k.ended = make(chan struct{})
	go func() { // ends with the node, which clear waits for
		defer close(k.ended)
		k.first.Wait() // it is killed: no way of ending says more
	}()
	defer context.AfterFunc(ctx, func() { k.first.Process.Kill() })()
	var o outcome
	if err := json.NewDecoder(r).Decode(&o); err != nil {
		return fmt.Errorf("the node died as it started (%w); its log is in %s", err, k.place.logs())
	}
	if o.Error != "" {
		return fmt.Errorf("%s (logs in %s)", o.Error, k.place.logs())
	}
	return nil
}

// introduce listens for the API server on the host and writes down how the node
// is reached.
func (k *keeper) introduce() error {
	l, err := net.Listen("tcp", k.options.API)
	if err != nil {
		return err
	}
	k.listener = l
	pid := k.first.Process.Pid
	k.node = Node{
		Name: k.options.Name, URL: "https://" + l.Addr().String(), Address: Address, PID: pid, NetNS: fmt.Sprintf("/proc/%d/ns/net", pid),
		Kubeconfig: filepath.Join(k.place.dir, "kubeconfig"), PKI: k.place.pki, Logs: k.place.logs(),
	}
	text, err := hostKubeconfig(k.place.pki, k.node.URL)
	if err == nil {
		err = os.WriteFile(k.node.Kubeconfig, text, 0o600)
	}
	if err != nil {
		return err
	}
	if text, err = json.Marshal(k.node); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(k.place.dir, nodeFile), text, 0o600)
}

// hold passes connections on to the API server, and returns when the node ends or
// has to.
func (k *keeper) hold(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.options.For)
	defer cancel()
	if k.options.Owner != 0 {
		owner, err := unix.PidfdOpen(k.options.Owner, 0)
		if err != nil {
			return fmt.Errorf("owner %d: %w", k.options.Owner, err)
		}
		go func() { // ends with the process
			for {
				_, err := unix.Poll([]unix.PollFd{{Fd: int32(owner), Events: unix.POLLIN}}, -1)
				if !errors.Is(err, unix.EINTR) {
					cancel()
					return
				}
			}
		}()
	}
	go func() { // ends with the node
		<-k.ended
		cancel()
	}()
	return Proxy(ctx, k.listener, k.node.NetNS, net.JoinHostPort(Address, apiPort))
}

// clear ends the node and removes its cgroups.
func (k *keeper) clear() error {
	if k.ended != nil {
		k.first.Process.Kill()
		<-k.ended
	}
	if k.listener != nil {
		k.listener.Close() // hold may have done so
	}
	var err error
	for _, h := range k.groups {
		err = errors.Join(err, h.remove())
	}
	return err
}
