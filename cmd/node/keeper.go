package node

import (
	"context"
	"fmt"

	"github.com/sedge-iot/sedge/functions/pod/keeper"
	"github.com/sedge-iot/sedge/functions/runner/walls"
)

// KeeperCommand is the hidden verb by which a program becomes the first process of a
// runner pod.
const KeeperCommand = "keep"

// confinedArg follows RunnerCommand where a runner is to raise its walls itself.
const confinedArg = "confined"

// Keeper makes this process the keeper of a pod. An error that is a *keeper.Ended says
// with which status the program is to end.
func Keeper(ctx context.Context) error {
	address := fmt.Sprintf(":%d", keeper.Port)
	return keeper.Main(ctx, address, []string{"/proc/self/exe", RunnerCommand, confinedArg})
}

// maxTasks is how many threads and processes the user of a pod may have: its keeper's,
// its runner's, and what that starts.
const maxTasks = 128

// Confine raises the walls of a runner in a pod, which are there before any code of a
// function's is.
func Confine() error {
	if err := walls.Limit(walls.Limits{Tasks: maxTasks, Files: 64}); err != nil {
		return err
	}
	return walls.Filter()
}
