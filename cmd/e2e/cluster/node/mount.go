package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enter makes the namespaces that this process is the first of into a node:
// nothing that it mounts is seen outside.
func enter(o Options, p place, groups []hierarchy) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// Without this the host's cgroups would stay in the list of mounts, where
	// containerd and the kubelet look for theirs.
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("detach /sys: %w", err)
	}
	mounts := []mount{
		{"/proc", "proc", ""},
		{"/sys", "sysfs", ""},
		{"/sys/fs/cgroup", "tmpfs", "mode=755"},
		{"/run", "tmpfs", "mode=755"},
		{"/var/log", "tmpfs", "mode=755"},
	}
	for _, h := range groups {
		mounts = append(mounts, mount{filepath.Join("/sys/fs/cgroup", h.mount), "cgroup", h.options()})
	}
	if o.Persist == "" {
		mounts = append(mounts, mount{p.state, "tmpfs", "mode=755,size=8g"})
	}
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	if err := pretendSysctls(filepath.Join(p.state, "sysctl")); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(o.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	return connect()
}

type mount struct{ dir, kind, options string }

func (m mount) do() error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.kind, m.dir, m.kind, 0, m.options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.kind, m.dir, err)
	}
	return nil
}

// pretendSysctls shows files with the values that the kubelet insists on in
// place of the settings, which are those of the whole machine.
func pretendSysctls(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
	} {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, filepath.Join("/proc/sys", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pretend sysctl %s: %w", name, err)
		}
	}
	return nil
}

// connect gives the node its network: an empty bridge that holds its address,
// since not every kernel has dummy links.
func connect() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("link lo: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "node0"
	link := &netlink.Bridge{LinkAttrs: attrs}
	address, err := netlink.ParseAddr(Address + "/24")
	if err != nil {
		return err
	}
	_, everywhere, err := net.ParseCIDR("0.0.0.0/0")
	if err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"lo up", func() error { return netlink.LinkSetUp(lo) }},
		{"add node0", func() error { return netlink.LinkAdd(link) }},
		{"address", func() error { return netlink.AddrAdd(link, address) }},
		{"node0 up", func() error { return netlink.LinkSetUp(link) }},
		{"default route", func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: everywhere, Gw: net.ParseIP(gateway)})
		}},
		{"forward", func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("network: %s: %w", step.name, err)
		}
	}
	return nil
}
