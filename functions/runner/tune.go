package runner

import "runtime/debug"

// tune makes the garbage collector collect in time where the runner's memory is
// limited, bytes. Left alone, it would let the heap double until the walls kill.
func tune(memory int64) {
	if memory > 0 {
		debug.SetMemoryLimit(memory * 3 / 4)
	}
}
