package node

import (
	"context"
	"os"
	"syscall"

	"github.com/sedge-iot/sedge/functions/runner"
	"github.com/sedge-iot/sedge/functions/runner/javascript"
)

// RunnerCommand is the hidden verb by which a program becomes a runner.
const RunnerCommand = "runner"

// agentFile is the file descriptor at which a runner finds its agent.
const agentFile = 3

// Runner makes this process a runner, until its agent lets go of it. args are what
// follows the verb.
func Runner(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == confinedArg {
		if err := Confine(); err != nil {
			return err
		}
	}
	syscall.CloseOnExec(agentFile) // nothing that a function starts is to speak for it
	engines := map[string]runner.Engine{"javascript": javascript.New()}
	return runner.Main(ctx, os.NewFile(agentFile, "agent"), engines)
}
