package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// wanted are the hierarchies that a kubelet works with. The named one has no
// controller: without it containerd cannot tell that a container ran out of memory.
var wanted = []string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd"}

// A hierarchy is one mount of cgroup v1, and the folder that a node has in it.
type hierarchy struct {
	names string // as the kernel lists them, with commas between
	mount string // name of its folder below /sys/fs/cgroup
	own   string // cgroup of this process, as a folder
	node  string // cgroup of the node, below own
}

// options are those it is mounted with.
func (h hierarchy) options() string {
	if strings.HasPrefix(h.names, "name=") {
		return "none," + h.names
	}
	return h.names
}

// hierarchies returns those that this process is in and that a node needs.
func hierarchies(name string) ([]hierarchy, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var all []hierarchy
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 || !slices.ContainsFunc(strings.Split(part[1], ","), func(c string) bool { return slices.Contains(wanted, c) }) {
			continue
		}
		h := hierarchy{names: part[1], mount: strings.TrimPrefix(part[1], "name=")}
		h.own = filepath.Join("/sys/fs/cgroup", h.mount, part[2])
		h.node = filepath.Join(h.own, "sedge-cluster-"+name)
		all = append(all, h)
	}
	if len(all) == 0 {
		return nil, errors.New("no cgroup v1 controllers here: a node of these tests needs them mounted below /sys/fs/cgroup")
	}
	return all, nil
}

// make creates the node's cgroup.
func (h hierarchy) make() error {
	if err := os.MkdirAll(h.node, 0o755); err != nil {
		return err
	}
	if !slices.Contains(strings.Split(h.names, ","), "cpuset") {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // empty at first, and then nothing may run in it
		value, err := os.ReadFile(filepath.Join(h.own, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(h.node, file), value, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// within calls f while the calling thread is in the node's cgroups, so that a
// process f starts is too, and takes them for the roots of its cgroup namespace.
// The goroutine has to be locked to its thread.
func within(all []hierarchy, f func() error) error {
	enter := func(cgroup string) error {
		return os.WriteFile(filepath.Join(cgroup, "tasks"), []byte(strconv.Itoa(unix.Gettid())), 0o644)
	}
	var err error
	for _, h := range all {
		err = errors.Join(err, h.make(), enter(h.node))
	}
	if err == nil {
		err = f()
	}
	for _, h := range all {
		err = errors.Join(err, enter(h.own))
	}
	return err
}

// remove deletes the node's cgroup and all below it. Those of processes that
// were just killed stay busy for a moment.
func (h hierarchy) remove() error {
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if err = removeCgroups(h.node); err == nil {
			return nil
		}
	}
	return fmt.Errorf("remove cgroup: %w", err)
}

func removeCgroups(top string) error {
	var folders []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			folders = append(folders, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, folder := range slices.Backward(folders) { // a folder comes after those in it
		err = errors.Join(err, unix.Rmdir(folder))
	}
	return err
}
