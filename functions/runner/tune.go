package runner

import "runtime/debug"

// collectAt is how much the heap may grow between two collections, per cent. A
// fresh context for each event makes garbage faster than anything else, in a heap of
// a megabyte or two: at Go's own 100 a busy runner spends a fifth of its time
// collecting. An idle one gives the memory back, see watch.
const collectAt = 200

// tune makes the garbage collector collect in time where the runner's memory is
// limited, bytes. Left alone, it would let the heap grow until the walls kill.
func tune(memory int64) {
	debug.SetGCPercent(collectAt)
	if memory > 0 {
		debug.SetMemoryLimit(memory * 3 / 4)
	}
}
