package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

func newDescribe(sh *shell) *cobra.Command {
	var code bool
	cmd := &cobra.Command{
		Use:   "describe FUNCTION",
		Short: "Show all about one function",
		Example: `  sedge describe night-light
  sedge describe night-light --code
  sedge describe night-light -o json | jq .function.manifest.spec`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if sh.inCluster() {
				return sh.describeInCluster(cmd.Context(), args[0], code)
			}
			return sh.describe(cmd.Context(), args[0], code)
		},
	}
	cmd.Flags().BoolVar(&code, "code", false, "show the code too")
	return sh.clusterVerb(sh.nodeVerb(cmd))
}

func (sh *shell) describe(ctx context.Context, name string, code bool) error {
	var f edge.FunctionDetail
	err := sh.ask(ctx, name, func(c *client.Client) (err error) {
		f, err = c.Function(ctx, name)
		return err
	})
	if err != nil {
		return err
	}
	if done, err := sh.structured(f); done {
		return err
	}
	if sh.output == "name" {
		_, err := fmt.Fprintln(sh.out, name)
		return err
	}
	r := sh.record()
	describeStatus(r, f)
	describeManifest(r, f.Function.Manifest.Spec)
	for _, i := range f.Status.Instance {
		r.field("Runner", i.Sandbox+" "+i.Name)
		r.list("  walls", i.Walls)
		r.list("  missing", i.Missing)
	}
	if code {
		r.block("Code", f.Function.Code)
	}
	return r.flush()
}

func describeStatus(r *record, f edge.FunctionDetail) {
	s := f.Status
	r.painted("Name", bold, f.Function.Name())
	r.painted("Status", phaseColor(s.Phase), string(s.Phase))
	r.field("Reason", s.Reason)
	r.field("Revision", f.Function.Revision.Short())
	r.field("Runtime", f.Function.Manifest.Spec.Runtime)
	r.list("Triggers", s.Triggers)
	c := s.Counts
	r.field("Events", fmt.Sprintf("%d taken, %d done, %d filtered, %d dead, %d expired, %d shed, %d discarded",
		c.Taken+c.Recovered, c.Done, c.Filtered, c.Dead, c.Expired, c.Shed, c.Discarded))
	r.field("Now", fmt.Sprintf("%d running, %d waiting, %s kept", s.Running, s.Waiting, plural(s.Dead, "dead letter", "dead letters")))
	if s.P50 > 0 {
		r.field("Latency", fmt.Sprintf("p50 %s, p99 %s from event to effect", span(s.P50), span(s.P99)))
	}
	if !s.LastRun.IsZero() {
		r.field("Last run", day(s.LastRun))
	}
	if s.LastErr != nil {
		r.painted("Last error", red, s.LastErr.Message)
	}
}

func describeManifest(r *record, s functions.Spec) {
	for _, t := range s.Triggers {
		if t.MQTT != nil {
			r.field("When", t.MQTT.When)
		}
	}
	if s.Output != nil {
		r.field("Output", s.Output.Topic)
	}
	r.list("Publishes", s.Permissions.Publish)
	r.field("State", stateText(s))
	limits := []string{"memory " + size(int64(s.Resources.Memory)), fmt.Sprintf("timeout %s", span(seconds(s.Resources.Timeout))), fmt.Sprintf("%d at a time", s.Resources.Concurrency)}
	if s.Resources.CPU != "" {
		limits = append(limits, "cpu "+s.Resources.CPU)
	}
	r.field("Limits", strings.Join(limits, ", "))
	r.field("Retry", fmt.Sprintf("%s, in order of %s", plural(s.Delivery.Retry.Attempts, "attempt", "attempts"), s.Delivery.Order))
}

// stateText says how much a function may keep.
func stateText(s functions.Spec) string {
	if s.Placement.Shared() {
		return "none"
	}
	return "at most " + size(int64(s.State.MaxBytes))
}
