package process

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// watchMemory kills the child when it uses more than its limit, until done is
// closed. It stands in for a control group.
func (c *child) watchMemory(done <-chan struct{}) {
	clock := time.NewTicker(100 * time.Millisecond)
	defer clock.Stop()
	for {
		select {
		case <-clock.C:
		case <-done:
			return
		}
		c.mu.Lock()
		limit := c.memory
		c.mu.Unlock()
		if limit > 0 && residentBytes(c.pid) > limit {
			c.end(&functions.Failure{Code: functions.CodeDied, Message: "killed: memory limit " + functions.Bytes(limit).String()})
			return
		}
	}
}

// residentBytes returns what the process has in memory of its own, or 0.
func residentBytes(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 3 {
		return 0
	}
	resident, _ := strconv.ParseInt(string(f[1]), 10, 64)
	shared, _ := strconv.ParseInt(string(f[2]), 10, 64)
	return (resident - shared) * int64(os.Getpagesize())
}
