package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/rollout"
)

func newUpgrade(sh *shell) *cobra.Command {
	cmd := sh.hubVerb(&cobra.Command{
		Use:   "upgrade [COMMAND]",
		Short: "Bring other versions of sedge-agent to the nodes",
		Long: `Bring other versions of sedge-agent to the nodes. A node takes only what a key in its
--upgrade-keys has signed, and goes back by itself from a version that does not start, or
with which it is not as well as before.`,
		Example: `  minisign -S -t 'sedge-agent v1.4.0 linux/arm64' -m sedge-agent
  sedge upgrade push sedge-agent              # with sedge-agent.minisig beside it
  sedge upgrade start v1.4.0 -l site=home --canary 1,10% --wait
  sedge upgrade list`,
		RunE: group,
	})
	cmd.AddCommand(newUpgradePush(sh), newUpgradeReleases(sh), newUpgradeForget(sh), newUpgradeStart(sh), newUpgradeList(sh),
		newUpgradeSteer(sh, "pause", "Stop an upgrade where it is"),
		newUpgradeSteer(sh, "resume", "Let a paused upgrade go on"),
		newUpgradeSteer(sh, "promote", "Begin the next stage now, whatever the nodes say"),
		newUpgradeSteer(sh, "abort", "End an upgrade and have its nodes go back"))
	return cmd
}

func newUpgradePush(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "push FILE...",
		Short:   "Have the hub keep versions, each signed in FILE.minisig",
		Example: "  sedge upgrade push dist/sedge-agent-linux-*",
		RunE: func(cmd *cobra.Command, args []string) error {
			var kept []edge.Release
			for _, file := range args {
				if strings.HasSuffix(file, signatureSuffix) {
					continue // that of another one
				}
				is, err := sh.push(cmd.Context(), file)
				if err != nil {
					return errors.Join(sh.printReleases(kept), err)
				}
				kept = append(kept, is)
			}
			return sh.printReleases(kept)
		},
	}
}

// signatureSuffix is what minisign appends to the name of what it signs.
const signatureSuffix = ".minisig"

// push has the hub keep one version.
func (sh *shell) push(ctx context.Context, path string) (is edge.Release, err error) {
	signature, err := settings.Read(path + signatureSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return is, wrongUsage("sign it with: minisign -S -t 'sedge-agent VERSION PLATFORM' -m "+path, "%s has no signature: there is no %s", path, path+signatureSuffix)
	}
	if err != nil {
		return is, err
	}
	err = sh.ask(ctx, "", func(c *client.Client) error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		is, err = c.PushRelease(ctx, file, string(signature))
		return err
	})
	return is, err
}

func newUpgradeReleases(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "releases",
		Short:   "List the versions that the hub keeps",
		Example: "  sedge upgrade releases",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []edge.Release
			err := sh.ask(cmd.Context(), "", func(c *client.Client) (err error) {
				all, err = c.Releases(cmd.Context())
				return err
			})
			if err != nil {
				return err
			}
			return sh.printReleases(all)
		},
	}
}

func newUpgradeForget(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "forget VERSION PLATFORM",
		Short:   "Have the hub keep a version no longer",
		Example: "  sedge upgrade forget v1.3.0 linux/arm64",
		RunE: func(cmd *cobra.Command, args []string) error {
			err := sh.ask(cmd.Context(), "", func(c *client.Client) error { return c.RemoveRelease(cmd.Context(), args[0], args[1]) })
			if err == nil {
				sh.say("%s for %s is forgotten", args[0], args[1])
			}
			return err
		},
	}
}

func (sh *shell) printReleases(all []edge.Release) error {
	if done, err := sh.structured(append([]edge.Release{}, all...)); done {
		return err
	}
	if len(all) == 0 {
		sh.say("No releases. Have the hub keep one with: sedge upgrade push FILE")
		return nil
	}
	t := table{columns: []string{"VERSION", "PLATFORM", "SIZE", "DIGEST"}}
	for _, r := range all {
		t.add(r.Version, r.Platform, size(r.Size), r.Digest[:min(12, len(r.Digest))])
	}
	sh.table(t)
	return nil
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
			if !wait {
				sh.say("upgrade %d begins; see how it goes: sedge upgrade list", u.ID)
				return sh.printUpgrades([]edge.UpgradeRollout{u})
			}
			return sh.followUpgrade(cmd.Context(), u)
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

// followUpgrade tells each step of an upgrade until it is over.
func (sh *shell) followUpgrade(ctx context.Context, u edge.UpgradeRollout) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := ""
	for {
		if now := upgradeText(u); now != told {
			if done, err := sh.line(u); err != nil {
				return err
			} else if !done {
				fmt.Fprintln(sh.out, now)
			}
			told = now
		}
		switch {
		case u.State == edge.Completed:
			return nil
		case u.State.Over():
			return &edge.Error{
				Code: edge.Conflict, Message: fmt.Sprintf("%s was %s in stage %s: %s", u.To, u.State, stageText(u.Rollout), u.Why),
				Hint: "its nodes run again what they ran before; see one with: sedge node describe NODE",
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		err := sh.ask(ctx, "", func(c *client.Client) error {
			all, err := c.Upgrades(ctx)
			if i := slices.IndexFunc(all, func(is edge.UpgradeRollout) bool { return is.ID == u.ID }); i >= 0 {
				u = all[i]
			}
			return err
		})
		if err != nil {
			return err
		}
	}
}

func upgradeText(u edge.UpgradeRollout) string {
	text := fmt.Sprintf("%s: %s, stage %s, %s", u.To, u.State, stageText(u.Rollout), plural(len(u.Nodes), "node", "nodes"))
	if u.Why != "" {
		text += ": " + u.Why
	}
	return text
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
	if len(all) == 0 {
		sh.say("No upgrades. Begin one with: sedge upgrade start VERSION")
		return nil
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
