package broker

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrPortTaken says that another program listens on the address.
type ErrPortTaken struct {
	Addr   string
	Holder string // its name and process id, or "" if they cannot be known
}

func (e *ErrPortTaken) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("%s is taken by another program", e.Addr)
	}
	return fmt.Sprintf("%s is taken by %s", e.Addr, e.Holder)
}

// errExposed says that the configuration would let in anyone.
var errExposed = errors.New("beyond this machine a broker needs users and an ACL")

// listen opens addr. Beyond this machine it does so only if clients have to
// prove who they are.
func listen(addr string, guarded bool, secure *tls.Config) (net.Listener, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if !guarded && !a.IP.IsLoopback() {
		return nil, fmt.Errorf("listen on %s: %w", addr, errExposed)
	}
	l, err := net.ListenTCP("tcp", a)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &ErrPortTaken{Addr: addr, Holder: holder(a.AddrPort())}
	}
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if secure != nil {
		return tls.NewListener(l, secure), nil
	}
	return l, nil
}

// holder names the program that listens on the address, or returns "".
func holder(addr netip.AddrPort) string {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode := listener(table, addr.Port()); inode != "" {
			return owner("socket:[" + inode + "]")
		}
	}
	return ""
}

// listener returns the inode of the socket that listens on port, of those in a
// table of the kernel's, or "".
func listener(table string, port uint16) string {
	f, err := os.Open(table)
	if err != nil {
		return ""
	}
	defer f.Close()
	const listening = "0A"
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 10 || fields[3] != listening {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(n) == port {
			return fields[9]
		}
	}
	return ""
}

// owner names the process that has a file open whose link reads so, or returns "".
func owner(link string) string {
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, file := range files {
		if to, err := os.Readlink(file); err != nil || to != link {
			continue
		}
		dir := filepath.Dir(filepath.Dir(file))
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
	}
	return ""
}
