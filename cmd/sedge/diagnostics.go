package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

func newNodeDiagnostics(sh *shell) *cobra.Command {
	return sh.nodeArgs(&cobra.Command{
		Use:   "diagnostics NODE",
		Short: "Ask a connected node how its machine and its agent are",
		Example: `  sedge node diagnostics pi-7
  sedge node diagnostics pi-7 -o json > pi-7.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var d edge.Diagnostics
			err := sh.ask(cmd.Context(), "", func(c *client.Client) (err error) {
				d, err = c.Diagnose(cmd.Context(), args[0])
				return err
			})
			if err != nil {
				return err
			}
			return sh.printDiagnostics(args[0], d)
		},
	})
}

func (sh *shell) printDiagnostics(name string, d edge.Diagnostics) error {
	if done, err := sh.structured(d); done {
		return err
	}
	r := sh.record()
	r.painted("Node", bold, name)
	r.field("Board", d.Board)
	r.field("Platform", d.Platform+", "+d.Kernel)
	r.field("Agent", d.Version+", "+d.Go)
	r.field("Up for", span(d.Uptime))
	r.field("Memory", size(d.Resident)+" resident")
	r.field("Disk", size(d.Free)+" free")
	r.field("Clock", day(d.Time))
	r.field("Position", fmt.Sprint(d.Synced.Revision))
	for _, c := range d.Checks {
		if !c.OK || c.Why != "" {
			r.painted("Check", yellow, c.Name+": "+c.Why)
		}
	}
	for _, f := range d.Functions {
		r.field("Function", strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Name, f.Phase, f.Reason)))
	}
	return r.flush()
}
