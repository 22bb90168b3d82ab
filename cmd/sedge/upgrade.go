package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/rollout"
)

func newUpgrade(sh *shell) *cobra.Command {
	cmd := sh.hubVerb(&cobra.Command{
		Use:   "upgrade [COMMAND]",
		Short: "Bring other versions of sedge-agent to the nodes",
		Long: `Bring other versions of sedge-agent to the nodes. A node takes only what a key of its
--upgrade-keys has signed, and goes back by itself from what does not do.`,
		Example: `  sedge upgrade push sedge-agent --version v1.4.0 --platform linux/arm64 --signature sedge-agent.minisig
  sedge upgrade start v1.4.0 -l site=home --canary 1,10% --wait
  sedge upgrade list`,
		RunE: group,
	})
	cmd.AddCommand(newUpgradePush(sh), newUpgradeStart(sh), newUpgradeList(sh),
		newUpgradeSteer(sh, "pause", "Stop an upgrade where it is"),
		newUpgradeSteer(sh, "resume", "Let a paused upgrade go on"),
		newUpgradeSteer(sh, "promote", "Begin the next stage now, whatever the nodes say"),
		newUpgradeSteer(sh, "abort", "End an upgrade and have its nodes go back"))
	return cmd
}

func newUpgradePush(sh *shell) *cobra.Command {
	var is edge.Release
	var signature string
	cmd := &cobra.Command{
		Use:     "push FILE",
		Short:   "Have the hub keep a version",
		Example: "  sedge upgrade push sedge-agent --version v1.4.0 --platform linux/arm64 --signature sedge-agent.minisig",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(signature)
			if err != nil {
				return err
			}
			is.Signature = string(text)
			err = sh.ask(cmd.Context(), "", func(c *client.Client) error {
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer file.Close()
				is, err = c.PushRelease(cmd.Context(), is, file)
				return err
			})
			if err != nil {
				return err
			}
			if done, err := sh.structured(is); done {
				return err
			}
			sh.say("Kept %s for %s, sha256:%s.", is.Version, is.Platform, is.Digest)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&is.Version, "version", "", "of the program, a `VERSION` like v1.4.0")
	f.StringVar(&is.Platform, "platform", "", "`PLATFORM` that it was built for, like linux/arm64")
	f.StringVar(&signature, "signature", "", "`FILE` that minisign has made of it")
	return cmd
}

func newUpgradeStart(sh *shell) *cobra.Command {
	var how edge.UpgradeAsk
	var canary string
	var wait bool
	cmd := &cobra.Command{
		Use:     "start VERSION",
		Short:   "Bring a version to the nodes",
		Example: "  sedge upgrade start v1.4.0 -l site=home --canary 1,10% --wait",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			how.Version = args[0]
			if canary != "" {
				if how.Stages, err = rollout.Stages(canary); err != nil {
					return wrongUsage("like --canary 1,10%", "--canary: %s", err)
				}
			}
			var u edge.UpgradeRollout
			err = sh.ask(cmd.Context(), "", func(c *client.Client) (err error) {
				u, err = c.Upgrade(cmd.Context(), how)
				return err
			})
			if err != nil {
				return err
			}
			if wait {
				u, err = sh.awaitUpgrade(cmd.Context(), u)
			}
			if err != nil {
				return err
			}
			if err := sh.printUpgrades([]edge.UpgradeRollout{u}); err != nil {
				return err
			}
			if u.State.Over() && u.State != edge.Completed {
				return &edge.Error{Code: edge.Conflict, Message: string(u.To) + " was " + string(u.State) + ": " + u.Why}
			}
			return nil
		},
	}
	selectorFlag(cmd, &how.Selector, "only nodes with such labels, a `SELECTOR`")
	f := cmd.Flags()
	f.StringVar(&canary, "canary", "", "first to so many nodes, `STAGES` like 1 or 10% or 1,10%,50%; then to all")
	f.DurationVar(&how.Bake, "bake", 0, "`TIME` that a stage lasts at least")
	f.DurationVar(&how.Patience, "patience", time.Hour, "`TIME` after which a stage that is not passed pauses")
	f.BoolVar(&how.Downgrade, "downgrade", false, "though it is older than what runs")
	f.BoolVar(&wait, "wait", false, "until it is over")
	return cmd
}

// awaitUpgrade returns an upgrade once it is over.
func (sh *shell) awaitUpgrade(ctx context.Context, u edge.UpgradeRollout) (edge.UpgradeRollout, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for !u.State.Over() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return u, ctx.Err()
		}
		err := sh.ask(ctx, "", func(c *client.Client) error {
			all, err := c.Upgrades(ctx)
			for _, is := range all {
				if is.ID == u.ID {
					u = is
				}
			}
			return err
		})
		if err != nil {
			return u, err
		}
	}
	return u, nil
}

func newUpgradeList(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "status"},
		Short:   "List upgrades, the newest first",
		Example: "  sedge upgrade list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []edge.UpgradeRollout{}
			err := sh.ask(cmd.Context(), "", func(c *client.Client) error {
				got, err := c.Upgrades(cmd.Context())
				all = append(all, got...)
				return err
			})
			if err != nil {
				return err
			}
			return sh.printUpgrades(all)
		},
	}
}

func (sh *shell) printUpgrades(all []edge.UpgradeRollout) error {
	if done, err := sh.structured(all); done {
		return err
	}
	t := table{columns: []string{"ID", "VERSION", "STATE", "STAGE", "NODES", "BEGUN", "BY", "REASON"}}
	for _, u := range all {
		t.add(u.ID, string(u.To), cell{string(u.State), rolloutColor(u.State)}, stageText(u.Rollout), len(u.Nodes), day(u.Begun), u.By, u.Why)
	}
	sh.table(t)
	return nil
}

func newUpgradeSteer(sh *shell, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " ID",
		Short:   short,
		Example: "  sedge upgrade " + verb + " 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return wrongUsage("sedge upgrade list has them", "an upgrade has a number, not %q", args[0])
			}
			var u edge.UpgradeRollout
			err = sh.ask(cmd.Context(), "", func(c *client.Client) (err error) {
				u, err = c.SteerUpgrade(cmd.Context(), id, verb)
				return err
			})
			if err != nil {
				return err
			}
			return sh.printUpgrades([]edge.UpgradeRollout{u})
		},
	}
}
