package node

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
	"github.com/sedge-iot/sedge/edge/member"
)

// Hub is what the owner of a node may set about the hub that it belongs to. Which that
// is the node has learnt when it joined.
type Hub struct {
	CAFile string // certificates of further authorities, like that of a proxy that opens TLS; "" for none
	Window string // when the hub may change what runs; "" for always
	Keys   string // file of minisign keys, one of which a function must be signed with; "" for none
	Rate   int    // bytes a second at which functions are fetched; 0 for as fast as can be
}

// AddHubFlags makes flags of what a node needs that belongs to a hub elsewhere.
func (o *Options) AddHubFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Hub.CAFile, "hub-ca", "", "`FILE` with further certificate authorities for the hub, PEM, like that of a proxy that opens TLS")
	f.StringVar(&o.Hub.Window, "changes", "", "`WHEN` the hub may change what runs, like 02:00-04:00 or Sat,Sun 22:00-05:00 (default: always)")
	f.StringVar(&o.Hub.Keys, "operator-keys", "", "`FILE` of minisign keys; a function must be signed with one of them (sedge digest --help says how)")
	f.IntVar(&o.Hub.Rate, "hub-rate", 0, "`BYTES` a second at which functions are fetched from the hub; 0 for as fast as can be")
}

// belong makes the node follow the hub that it has joined, if it has. What is wrong with
// its files is told, and the node runs on without the hub.
func (n *Node) belong(o Options) error {
	home, err := member.OpenHome(o.DataDir)
	if errors.Is(err, member.ErrNotJoined) {
		return nil
	}
	if err != nil {
		n.stray = err
		n.lg.Error("the node runs without its hub", "err", err)
		return nil
	}
	config := member.Config{
		Home: home, Agent: n.Agent, Version: settings.Version(), Rate: o.Hub.Rate, Built: built(), Trusted: clockIsSet,
		Checks: n.Checks, Diagnose: n.diagnose, Logger: n.lg.With("part", "hub"),
	}
	if o.Slots != nil {
		config.Upgrades = versions{o.Slots, n.Health}
	}
	if o.Hub.CAFile != "" {
		if config.Extra, err = settings.Read(o.Hub.CAFile); err != nil {
			return fmt.Errorf("read --hub-ca: %w", err)
		}
	}
	if config.Owner, err = o.Hub.owner(); err != nil {
		return err
	}
	n.member, err = member.New(config)
	return err
}

// owner returns what the hub may do.
func (h Hub) owner() (owner member.Owner, err error) {
	if h.Window != "" {
		if owner.Window, err = member.ParseWindow(h.Window); err != nil {
			return owner, &edge.Error{Code: edge.Invalid, Message: "--changes: " + err.Error()}
		}
	}
	if h.Keys == "" {
		return owner, nil
	}
	text, err := settings.Read(h.Keys)
	if err == nil {
		owner.Signers, err = member.ParseSigners(text)
	}
	if err != nil {
		return owner, &edge.Error{Code: edge.Invalid, Message: "--operator-keys: " + err.Error(), Hint: "a file of public keys as minisign -G writes them"}
	}
	return owner, nil
}

// built returns when the program was built, as far as it knows: a time that has passed.
func built() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key != "vcs.time" {
			continue
		}
		if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
			return t
		}
	}
	return time.Time{}
}

// Clock returns what the machine knows about the time.
func Clock() link.Clock { return link.Clock{Now: time.Now(), Floor: built(), Trusted: clockIsSet()} }

// clockIsSet reports whether the kernel's clock is kept right by somebody, like NTP.
func clockIsSet() bool {
	const unsynchronised = 0x40 // STA_UNSYNC
	var t unix.Timex
	_, err := unix.Adjtimex(&t)
	return err == nil && t.Status&unsynchronised == 0
}

// diagnose says of the machine what the hub's operators may want to know.
func (n *Node) diagnose() edge.Diagnostics {
	d := edge.Diagnostics{Kernel: kernel(), Board: board()}
	var fs unix.Statfs_t
	if unix.Statfs(n.options.DataDir, &fs) == nil {
		d.Free = int64(fs.Bavail) * int64(fs.Bsize)
	}
	d.Resident = resident()
	var up unix.Sysinfo_t
	if unix.Sysinfo(&up) == nil {
		d.Uptime = float64(up.Uptime)
	}
	return d
}

// resident returns the memory that the process has, bytes, or 0 if that is not to be seen.
func resident() int64 {
	var size, pages int64
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}

// board returns what the device tree calls the machine, or "".
func board() string {
	model, err := os.ReadFile("/proc/device-tree/model")
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(append(model, 0))
}
