package node

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/sedge-iot/sedge/cmd/service"
)

// watchdog tells systemd until ctx is done that the agent lives, twice in the
// time after which it would be killed for its silence. What every function holds
// is looked at each time: an agent that is stuck on one of them is silent.
func (n *Node) watchdog(ctx context.Context) error {
	patience := watchdogTime(os.Getenv)
	if patience == 0 {
		return nil
	}
	tick := time.NewTicker(patience / 2)
	defer tick.Stop()
	for {
		n.Agent.Functions()
		service.Notify("WATCHDOG=1")
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// watchdogTime returns how long systemd bears the silence of this process, or 0
// if it does not listen.
func watchdogTime(env func(string) string) time.Duration {
	usec, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64)
	pid := env("WATCHDOG_PID")
	if err != nil || usec <= 1 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	return min(time.Duration(min(usec, 1e12))*time.Microsecond, time.Hour)
}
