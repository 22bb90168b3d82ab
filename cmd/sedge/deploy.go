package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/rollout"
	"github.com/sedge-iot/sedge/edge/selector"
	"github.com/sedge-iot/sedge/functions"
)

type deployOptions struct {
	files   []string
	wait    bool
	timeout time.Duration
	dryRun  bool
	diff    bool
	yes     bool
	signed  string // a file

	selector string
	canary   string
	gate     gateOptions
}

// gateOptions change what is asked of a stage.
type gateOptions struct {
	bake     time.Duration
	patience time.Duration
	minRuns  int
	errors   float64
}

func newDeploy(sh *shell) *cobra.Command {
	var o deployOptions
	cmd := &cobra.Command{
		Use:     "deploy",
		Aliases: []string{"apply"},
		Short:   "Deploy functions, new or changed",
		Long: `Deploy functions, new or changed. Manifests and code are checked here first, and
all that is wrong is told at once, with file and line. TypeScript is translated,
and what the code imports is bundled with it.`,
		Example: `  sedge deploy -f night-light --wait
  sedge deploy -f kitchen.yaml -f hall/         # several; folders are searched
  sedge deploy -f night-light --dry-run --diff  # what would change?
  cat function.yaml | sedge deploy -f -
  sedge deploy -f night-light -l site=home --canary 1,10% --wait   # in stages; goes back by itself
  sedge deploy -f night-light --signature night-light.txt.minisig  # for nodes that want it signed: sedge digest --help
  sedge deploy -f night-light --kubeconfig /etc/rancher/k3s/k3s.yaml --wait`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return wrongUsage("name it with -f: sedge deploy -f "+args[0], "sedge deploy does not take %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return sh.deploy(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "file", "f", nil, "`FILE`: a manifest, a folder with manifests, or - for stdin")
	f.BoolVar(&o.wait, "wait", false, "wait until the functions run as deployed")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "`TIME` that --wait waits")
	f.BoolVar(&o.dryRun, "dry-run", false, "check and compare, change nothing")
	f.BoolVar(&o.diff, "diff", false, "show what changes")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask, though it takes many functions away from nodes")
	f.StringVar(&o.signed, "signature", "", "`FILE` that minisign made of what sedge digest prints")
	selectorFlag(cmd, &o.selector, "only on nodes with such labels, a `SELECTOR`")
	f.StringVar(&o.canary, "canary", "", "first to so many nodes, `STAGES` like 1 or 10% or 1,10%,50%; then to all")
	usual := rollout.Usual()
	f.DurationVar(&o.gate.bake, "bake", usual.Bake, "`TIME` that a stage lasts at least")
	f.DurationVar(&o.gate.patience, "patience", usual.Patience, "`TIME` after which a stage that cannot be judged pauses")
	f.IntVar(&o.gate.minRuns, "min-runs", usual.MinRuns, "`NUMBER` of runs on real events that a stage must see")
	f.Float64Var(&o.gate.errors, "max-errors", 100*usual.MaxErrors, "`PERCENT` of the runs that may fail")
	return sh.clusterVerb(sh.hubVerb(cmd))
}

func (sh *shell) deploy(ctx context.Context, o deployOptions) error {
	all, err := sh.sources(o.files)
	if err != nil {
		return err
	}
	if sh.inCluster() {
		return sh.deployToCluster(ctx, all, o)
	}
	changes, err := sh.deployAll(ctx, all, o)
	if err == nil && o.canary != "" && !o.dryRun {
		return errors.Join(sh.printChanges(changes, deployed), sh.rollouts(ctx, changes, o.wait))
	}
	if err == nil && o.wait && !o.dryRun {
		err = sh.await(ctx, all, o.timeout)
	}
	return errors.Join(sh.printChanges(changes, deployed), err)
}

// rollouts tells the steps of the rollouts that the changes have begun until each is
// over, or how to see them.
func (sh *shell) rollouts(ctx context.Context, changes []edge.Change, wait bool) error {
	for _, c := range changes {
		switch {
		case c.Rollout == nil:
		case !wait:
			sh.say("%s goes to its nodes in stages: sedge rollout status %s --watch", c.Function, c.Function)
		default:
			if err := sh.follow(ctx, c.Function); err != nil {
				return err
			}
		}
	}
	return nil
}

// deployAll deploys one function after another, and returns what became of
// them up to the first error.
func (sh *shell) deployAll(ctx context.Context, all []functions.Function, o deployOptions) (changes []edge.Change, err error) {
	ask, err := o.rollout()
	if err != nil {
		return nil, err
	}
	signature, err := o.signature(all)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if o.diff {
			if _, err := sh.diffWithHub(ctx, f); err != nil {
				return changes, err
			}
		}
		err := sh.ask(ctx, "", func(c *client.Client) error {
			return sh.guarded(o.yes, func(confirmed bool) error {
				change, err := c.Deploy(ctx, f, client.DeployOptions{DryRun: o.dryRun, Rollout: ask, Signature: signature, Confirmed: confirmed})
				if err != nil {
					return err
				}
				changes = append(changes, change)
				if change.Untried != "" {
					sh.say("%s is recorded, but no node has tried it: %s", change.Function, change.Untried)
				}
				return nil
			})
		})
		if err != nil {
			return changes, aboutFunction(f, err)
		}
	}
	return changes, nil
}

// rollout returns how the nodes are to be reached, nil for the usual way.
func (o deployOptions) rollout() (*edge.RolloutAsk, error) {
	if _, err := selector.Parse(o.selector); err != nil {
		return nil, wrongUsage("like -l site=home", "--selector: %s", err)
	}
	if o.canary == "" {
		if o.selector == "" {
			return nil, nil
		}
		return &edge.RolloutAsk{Selector: o.selector}, nil
	}
	stages, err := rollout.Stages(o.canary)
	if err != nil {
		return nil, wrongUsage("like --canary 1,10%", "--canary: %s", err)
	}
	gate := rollout.Usual()
	gate.Bake, gate.Patience, gate.MinRuns, gate.MaxErrors = o.gate.bake, o.gate.patience, o.gate.minRuns, o.gate.errors/100
	return &edge.RolloutAsk{Selector: o.selector, Stages: stages, Gate: &gate}, nil
}

func deployed(c edge.Change) string {
	switch {
	case !c.Changed:
		return "unchanged"
	case c.Created:
		return "created"
	}
	return "changed"
}

// aboutFunction says which of several functions an error of the hub is about, unless
// that says so itself.
func aboutFunction(f functions.Function, err error) error {
	e, ok := errors.AsType[*edge.Error](err)
	if !ok {
		return fmt.Errorf("deploy %s: %w", f.Name(), err)
	}
	told := *e
	if strings.HasPrefix(told.Message, "deploy "+f.Name()+": ") {
		return err
	}
	told.Message = "deploy " + f.Name() + ": " + told.Message
	return &told
}

// await returns once all functions run as deployed, or sleep ready to.
func (sh *shell) await(ctx context.Context, all []functions.Function, timeout time.Duration) error {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	for _, f := range all {
		if err := sh.awaitOne(ctx, f); err != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return &edge.Error{
					Code: edge.Timeout, Message: fmt.Sprintf("%s does not run as deployed after %s: %v", f.Name(), timeout, err),
					Hint: "see how it goes on: sedge describe " + f.Name(),
				}
			}
			return err
		}
	}
	return nil
}

// sayMissing tells of nodes that do not run the function yet and that nobody waits for.
func (sh *shell) sayMissing(f edge.FunctionDetail) {
	if on := f.Spread; on.Current < on.Placed {
		sh.say("%s runs on %d of %d nodes: the others are away, cordoned or held by their owner", f.Status.Name, on.Current, on.Placed)
	}
}

// awaitOne returns once f runs as deployed. What keeps it for more than a moment
// is told, for the user may have to do something about it; when ctx ends before,
// the error says it too.
func (sh *shell) awaitOne(ctx context.Context, f functions.Function) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	waits, began, said := "the hub does not answer", time.Now(), false
	for ctx.Err() == nil {
		var now edge.FunctionDetail
		err := sh.ask(ctx, f.Name(), func(c *client.Client) (err error) {
			now, err = c.Function(ctx, f.Name())
			return err
		})
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err != nil:
		case now.Status.Revision != f.Revision && now.Spread.GivenUp > 0:
			return &edge.Error{Code: edge.Internal, Message: f.Name() + ": " + now.Status.Reason, Hint: "mend it and deploy again"}
		case now.Status.Revision != f.Revision:
			waits = cmp.Or(now.Status.Reason, "revision "+now.Status.Revision.Short()+" runs")
		case now.Status.Phase == edge.Failing:
			return &edge.Error{Code: edge.Internal, Message: f.Name() + " cannot be started: " + now.Status.Reason, Hint: "mend it and deploy again, or: sedge rollback " + f.Name()}
		case now.Status.Phase != edge.Starting:
			sh.sayMissing(now)
			return nil
		default:
			waits = cmp.Or(now.Status.Reason, "a runner is being started")
			if !said && time.Since(began) > time.Second {
				sh.say("%s waits: %s", f.Name(), waits)
				said = true
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return errors.New(waits)
}
