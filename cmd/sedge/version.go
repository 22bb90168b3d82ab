package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
)

func newVersion(sh *shell) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of this program and of the hub",
		Example: `  sedge version -o json`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return sh.version(cmd.Context()) },
	}
	return sh.hubVerb(cmd)
}

// version prints which program this is and, if the hub answers, which that is.
func (sh *shell) version(ctx context.Context) error {
	both := struct {
		Client edge.Version  `json:"client"`
		Hub    *edge.Version `json:"hub,omitempty"`
	}{Client: edge.Version{Version: settings.Version(), Go: runtime.Version(), API: "v1"}}
	ctx, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if c, err := sh.client(); err == nil {
		if v, err := c.Version(ctx); err == nil {
			both.Hub = &v
		}
	}
	if done, err := sh.structured(both); done {
		return err
	}
	fmt.Fprintf(sh.out, "sedge %s %s %s/%s\n", both.Client.Version, both.Client.Go, runtime.GOOS, runtime.GOARCH)
	if both.Hub != nil {
		fmt.Fprintf(sh.out, "hub   %s %s node %s\n", both.Hub.Version, both.Hub.Go, both.Hub.Node)
	}
	return nil
}
