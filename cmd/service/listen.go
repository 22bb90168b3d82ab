package service

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/sedge-iot/sedge/edge"
)

// Listen listens on a TCP address. If another program does already, the error
// names it, and the hint says what to do.
func Listen(what, address, hint string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err == nil {
		return ln, nil
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil, &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("listen for %s: %s", what, err)}
	}
	by := "another program"
	if addr, err := net.ResolveTCPAddr("tcp", address); err == nil {
		if holder := portHolder(addr.Port); holder != "" {
			by = holder
		}
	}
	return nil, &edge.Error{Code: edge.Conflict, Message: fmt.Sprintf("listen for %s: %s is in use by %s", what, address, by), Hint: hint}
}

// portHolder returns the program that listens on a TCP port of this machine,
// like "mosquitto (pid 812)", or "" if that cannot be told.
func portHolder(port int) string {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode := listener(table, port); inode != "" {
			if holder := socketHolder(inode); holder != "" {
				return holder
			}
		}
	}
	return ""
}

// listener returns the inode of the socket that listens on port, or "".
func listener(table string, port int) string {
	f, err := os.Open(table)
	if err != nil {
		return ""
	}
	defer f.Close()
	const listening = "0A"
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != listening {
			continue
		}
		_, local, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(local, 16, 16); err == nil && int(n) == port {
			return fields[9]
		}
	}
	return ""
}

// socketHolder returns the process that has a socket open. Other users'
// processes are seen by root only.
func socketHolder(inode string) string {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well formed
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		pid := strings.Split(link, "/")[2]
		name, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
		if err != nil {
			return "process " + pid
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
	}
	return ""
}
