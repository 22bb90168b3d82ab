package walls

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Limits are the resource limits of a runner.
type Limits struct {
	Tasks uint64 // processes and threads of its user; 0: not limited, where the user is not its own
	Files uint64 // open at a time
}

// Limit sets the limits, and that there are no core dumps and no files written.
func Limit(l Limits) error {
	type limit struct {
		name     string
		resource int
		max      uint64
	}
	all := []limit{
		{"open files", unix.RLIMIT_NOFILE, l.Files},
		{"core dumps", unix.RLIMIT_CORE, 0},
		{"file size", unix.RLIMIT_FSIZE, 0},
	}
	if l.Tasks > 0 {
		all = append(all, limit{"tasks", unix.RLIMIT_NPROC, l.Tasks})
	}
	for _, l := range all {
		if err := unix.Prlimit(0, l.resource, &unix.Rlimit{Cur: l.max, Max: l.max}, nil); err != nil {
			return fmt.Errorf("limit of %s: %w", l.name, err)
		}
	}
	return nil
}
