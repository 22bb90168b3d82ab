package runner

import "runtime/debug"

// tune sets the garbage collector for many small, short-lived contexts: it
// collects seldom, and the memory limit makes it collect in time.
func tune(memory int64) {
	debug.SetGCPercent(200)
	if memory > 0 {
		debug.SetMemoryLimit(memory * 3 / 4)
	}
}
