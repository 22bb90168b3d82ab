// Command probe is an agent's program for the tests, whose runner does, in place of a
// function's code, what no guest may, and tells what came of it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

func main() {
	var err error
	switch os.Args[1] {
	case "sleep":
		time.Sleep(time.Minute) // or until it is killed
	case node.KeeperCommand:
		err = node.Keeper(context.Background())
	case node.RunnerCommand:
		if err = node.Confine(); err == nil {
			err = runner.Main(context.Background(), os.NewFile(3, "agent"), map[string]runner.Engine{"javascript": guest{}})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A guest is engine, program and context at once: nothing of it has a state.
type guest struct{}

func (guest) Load(context.Context, runner.Source) (runner.Program, error) { return guest{}, nil }
func (guest) New() runner.Context                                         { return guest{} }
func (guest) Prepare()                                                    {}
func (guest) Interrupt(*functions.Failure)                                {}

// Run tries everything and returns what came of each, "" where nothing hindered it.
func (guest) Run(functions.Invocation, runner.Host) functions.Outcome {
	tried := map[string]string{}
	for name, family := range map[string]int{"inet": unix.AF_INET, "inet6": unix.AF_INET6, "netlink": unix.AF_NETLINK, "packet": unix.AF_PACKET, "unix": unix.AF_UNIX} {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
		tried["socket "+name] = say(err)
		if err == nil {
			unix.Close(fd)
		}
	}
	for _, address := range []string{"10.43.0.1:443", "10.200.0.1:10250", "127.0.0.1:7070", "169.254.169.254:80"} {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		tried["dial "+address] = say(err)
		if err == nil {
			conn.Close()
		}
	}
	tried["write /"] = say(os.WriteFile("/probe", []byte("x"), 0o600))
	_, err := os.ReadDir("/var/run/secrets")
	tried["token"] = say(err)
	tried["ptrace"] = say(unix.PtraceAttach(1))
	tried["mount"] = say(unix.Mount("none", "/tmp", "tmpfs", 0, ""))
	tried["namespace"] = say(unix.Unshare(unix.CLONE_NEWUSER))
	_, err = os.ReadFile("/proc/1/environ")
	tried["keeper"] = say(err)
	tried["processes"] = swarm(500)
	tried["throttled"] = spin(time.Second)
	returned, err := json.Marshal(tried)
	if err != nil {
		return functions.Outcome{Err: &functions.Failure{Code: functions.CodeThrown, Message: err.Error()}}
	}
	return functions.Outcome{Returned: returned}
}

func say(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// swarm starts up to n processes, and returns why not all could be.
func swarm(n int) string {
	raise(16)
	var all []*exec.Cmd
	defer func() {
		for _, c := range all {
			c.Process.Kill()
			c.Wait()
		}
	}()
	for range n {
		c := exec.Command("/proc/self/exe", "sleep")
		if err := c.Start(); err != nil {
			return err.Error()
		}
		all = append(all, c)
	}
	return ""
}

// raise makes n threads for Go's runtime to have at hand: it ends the program if it
// needs one where no more can be.
func raise(n int) {
	var busy sync.WaitGroup
	for range n {
		busy.Go(func() {
			unix.Nanosleep(&unix.Timespec{Nsec: int64(100 * time.Millisecond)}, nil)
		})
	}
	busy.Wait()
}

// spin works for so long and returns how often the kernel held it up meanwhile.
func spin(d time.Duration) string {
	for until := time.Now().Add(d); time.Now().Before(until); {
	}
	for _, file := range []string{"/sys/fs/cgroup/cpu/cpu.stat", "/sys/fs/cgroup/cpu.stat"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if n, ok := strings.CutPrefix(lines.Text(), "nr_throttled "); ok {
				return n
			}
		}
	}
	return "unknown"
}
