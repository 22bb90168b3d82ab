// Package node brings up a real Kubernetes of one node on this machine, for
// tests: API server, controllers, scheduler, kubelet and kube-proxy from the
// program kubernetes that lies beside the caller's, containerd and what it needs
// from Debian packages that are unpacked and not installed.
//
// A node is a tree of processes in namespaces of its own. Three kinds take part:
//
//   - the keeper (Keep), on the host: makes the cgroups, starts the node, passes
//     connections on to its API server, and ends it when its owner ends, when its
//     time is over, or when it is told to;
//   - the first process of the node (Init): mounts, network, and the components,
//     which it starts, kills and starts again as it is told through a socket;
//   - whoever asks something of the node: Up, Down, Control, Exec, Proxy.
//
// When the first process dies the kernel ends all others with it, and the mounts
// and links go too; only empty cgroups are left, which the keeper removes.
package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Where a node is, in its own network. Every node has the same addresses, since
// none sees the network of another.
const (
	Address     = "10.200.0.1" // of the node
	apiPort     = "6443"
	gateway     = "10.200.0.254" // nobody: some components insist on a default route
	podRange    = "10.42.0.0/16"
	podSubnet   = "10.42.0.0/24"
	serviceIPs  = "10.43.0.0/16"
	apiService  = "10.43.0.1" // the service "kubernetes"
	inNodeURL   = "https://" + Address + ":" + apiPort
	pauseImage  = "localhost/pause:1"
	readyWithin = 2 * time.Minute // a machine under heavy load takes a fraction of it
)

// Options say what kind of node is wanted. They travel as JSON to the keeper
// and to the node's first process.
type Options struct {
	Name    string        // of the cluster and of its node
	Persist string        // folder for all that outlives a power cut, or "": in memory
	Images  []string      // OCI archives to import
	API     string        // where the host listens for the API server, as 127.0.0.1:0
	Owner   int           // process that the node ends with, or 0: none
	For     time.Duration // longest life
}

// A Node is one that is up.
type Node struct {
	Name       string `json:"name"`       // also the node's in Kubernetes
	Kubeconfig string `json:"kubeconfig"` // for the host; Exec sets another, for within
	URL        string `json:"api"`        // of the API server on the host's loopback, while the node lives
	Address    string `json:"address"`    // the node's own, in its network
	PID        int    `json:"pid"`        // of the node's first process, as the host sees it
	NetNS      string `json:"netns"`      // the file that is the node's network namespace
	PKI        string `json:"pki"`        // folder of keys and certificates, admin.kubeconfig among them
	Logs       string `json:"logs"`       // folder, a file for each component
}

var nameRule = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`)

// check returns what is wrong with o, and makes its paths absolute.
func (o *Options) check() error {
	if !nameRule.MatchString(o.Name) {
		return fmt.Errorf("name %q: want up to 32 of a-z, 0-9 and -, a letter first", o.Name)
	}
	if o.For <= 0 {
		return fmt.Errorf("lifetime %s: want more than 0", o.For)
	}
	if o.Persist != "" {
		o.Persist = absolute(o.Persist)
	}
	for i, image := range o.Images {
		o.Images[i] = absolute(image)
		if _, err := os.Stat(o.Images[i]); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	return nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// A place is where the files of a node lie; the host and the node see them at
// the same paths, but for state where it is in memory.
type place struct {
	dir   string // all that goes when the node goes
	state string // what a power cut leaves where Persist is set
	pki   string // keys, certificates, kubeconfigs
	tools string // folder of the programs kubernetes and pause
	debs  string // root of the unpacked Debian packages
}

func (o Options) place() (place, error) {
	self, err := os.Executable()
	if err != nil {
		return place{}, err
	}
	debs, err := debianRoot()
	if err != nil {
		return place{}, err
	}
	p := place{dir: dirOf(o.Name), tools: filepath.Dir(self), debs: debs}
	p.state, p.pki = filepath.Join(p.dir, "state"), filepath.Join(p.dir, "pki")
	if o.Persist != "" {
		p.state, p.pki = o.Persist, filepath.Join(o.Persist, "pki")
	}
	return p, nil
}

// check returns an error that tells what to do where a part is missing.
func (p place) check() error {
	if os.Geteuid() != 0 {
		return errors.New("only root may make the namespaces of a node")
	}
	for _, program := range []string{"kubernetes", "pause"} {
		if _, err := os.Stat(filepath.Join(p.tools, program)); err != nil {
			return fmt.Errorf("%w: make cluster builds it", err)
		}
	}
	if _, err := os.Stat(p.debs); err != nil {
		return fmt.Errorf("%w: cluster deps brings it", err)
	}
	return nil
}

func (p place) logs() string    { return filepath.Join(p.dir, "log") }
func (p place) control() string { return filepath.Join(p.dir, "control") }

// base holds a folder and a lock for each node. It is in /tmp since a node has a
// /run of its own, and since the path of a socket has to be short.
const base = "/tmp/sedge-cluster"

const nodeFile = "node.json" // the Node, once it is up

func dirOf(name string) string { return filepath.Join(base, name) }

// env is the environment of the components.
func (p place) env() []string {
	libs, _ := filepath.Glob(filepath.Join(p.debs, "usr/lib/*-linux-gnu")) // the pattern is sound
	return []string{
		"PATH=" + filepath.Join(p.debs, "usr/sbin") + ":" + filepath.Join(p.debs, "usr/bin") +
			":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LD_LIBRARY_PATH=" + strings.Join(libs, ":"),
		"HOME=/",
	}
}

// Find returns the node of this name that is up.
func Find(name string) (*Node, error) {
	var n Node
	raw, err := os.ReadFile(filepath.Join(dirOf(name), nodeFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no cluster %s is up: cluster up %s brings one", name, name)
	}
	if err == nil {
		err = json.Unmarshal(raw, &n)
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	return &n, nil
}

// A lock is held by a keeper for as long as it lives, and lost with it however
// it ends.
type lock struct{ *os.File }

var errUp = errors.New("is up already")

// tryLock takes the lock for this process, and returns errUp where another
// holds it.
func tryLock(name string) (lock, error) {
	if err := os.MkdirAll(base, 0o700); err != nil {
		return lock{}, err
	}
	f, err := os.OpenFile(dirOf(name)+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return lock{}, err
	}
	if err := claim(f); err != nil {
		return lock{}, errors.Join(err, f.Close())
	}
	return lock{f}, nil
}

func claim(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errUp
	}
	if err != nil {
		return err
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(f.Name()); err != nil || !os.SameFile(mine, there) {
		return errUp // it was, a moment ago, and has removed the file since
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = fmt.Fprint(f, os.Getpid())
	return err
}

// endHolder tells the process that holds the lock to end, if one does.
func endHolder(name string) {
	text, err := os.ReadFile(dirOf(name) + ".lock")
	if err != nil {
		return // it has just been given back
	}
	if pid, err := strconv.Atoi(string(text)); err == nil {
		syscall.Kill(pid, syscall.SIGTERM) // or it is about to end by itself
	}
}

// remove gives the lock back and leaves no file.
func (l lock) remove() error { return errors.Join(os.Remove(l.Name()), l.Close()) }
