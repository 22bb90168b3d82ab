package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/cmd/settings"
)

// The groups in which "sedge --help" lists the verbs.
var groups = []*cobra.Group{
	{ID: "begin", Title: "Begin"},
	{ID: "look", Title: "See what happens"},
	{ID: "act", Title: "Act"},
	{ID: "other", Title: "Other"},
}

func newRoot(sh *shell) *cobra.Command {
	root := &cobra.Command{
		Use:   "sedge [COMMAND]",
		Short: "Functions for devices, on the edge",
		Long: `sedge runs small functions when devices speak: a motion sensor says something,
a lamp answers, on your own board, with the internet down.`,
		Example: `  sedge demo                               # a simulated home, reacting
  sedge up                                 # hub, agent and broker in one process
  sedge new night-light                    # a folder with a first function
  sedge deploy -f night-light --wait
  sedge events -f                          # what came, and why it did or did not fire`,
		Version:           settings.Version(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return sh.prepare(cmd) },
		RunE:              group,
	}
	sh.addFlags(root)
	root.SetVersionTemplate("sedge {{.Version}}\n")
	root.AddGroup(groups...)
	grouped := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	grouped("begin", newDemo(sh), newUp(sh), newNew(sh), newDeploy(sh), newToken(sh))
	grouped("look", newList(sh), newDescribe(sh), newNode(sh), newLogs(sh), newEvents(sh), newDiff(sh), newHistory(sh), newAudit(sh))
	grouped("act", newInvoke(sh), newState(sh), newDead(sh), newEnable(sh), newDisable(sh), newRollback(sh), newRollout(sh), newUpgrade(sh), newDelete(sh), newOperator(sh))
	grouped("other", newSchema(sh), newDigest(sh), newVersion(sh))
	root.SetHelpCommand(newHelp())
	root.SetHelpCommandGroupID("other")
	root.SetCompletionCommandGroupID("other")
	root.InitDefaultCompletionCmd()
	completion(root)
	root.AddCommand(newRunner())
	root.SetHelpFunc(help)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return wrongUsage("see "+cmd.CommandPath()+" --help", "%s", err)
	})
	each(root, sh.finish)
	return root
}

// completion makes cobra's verb of that name one of ours.
func completion(root *cobra.Command) {
	cmd, _, err := root.Find([]string{"completion"})
	cobra.CheckErr(err)
	cmd.Use, cmd.Args, cmd.RunE = "completion [COMMAND]", nil, group
	cmd.Short = "Print a script that completes commands in your shell"
	cmd.Long = "Print a script that completes commands in your shell, names of functions included."
	cmd.Example = `  source <(sedge completion bash)       # in this shell
  sedge completion bash | sudo tee /etc/bash_completion.d/sedge
  sedge completion fish > ~/.config/fish/completions/sedge.fish`
	for _, c := range cmd.Commands() {
		c.Args = nil
	}
}

// prepare takes what was not given as a flag from the environment, before any
// verb runs.
func (sh *shell) prepare(cmd *cobra.Command) error {
	if err := settings.FromEnvironment(cmd.Flags(), sh.lookup); err != nil {
		return wrongUsage("unset it, or see "+cmd.CommandPath()+" --help", "%s", err)
	}
	return sh.checkOutput()
}

// finish gives a command what all share: arguments checked by its usage line,
// and names of functions completed from the hub.
func (sh *shell) finish(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	cmd.SuggestionsMinimumDistance = 2
	if cmd.Args == nil {
		cmd.Args = argsByUse
	}
	if words := strings.Fields(cmd.Use); len(words) > 1 && strings.Contains(words[1], "FUNCTION") {
		cmd.ValidArgsFunction = sh.completeFunctions
	} else if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
}

// each calls do for cmd and every command below it.
func each(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, c := range cmd.Commands() {
		each(c, do)
	}
}

// group is what a command that only holds others does: it helps, or says which
// of them may have been meant.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	hint := cmd.CommandPath() + " --help lists them"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + either(near) + "?"
	}
	return wrongUsage(hint, "%s has no command %q", cmd.CommandPath(), args[0])
}

// argsByUse checks the arguments by the words of the usage line: NAME must be
// given, [NAME] may, and one that ends in three dots may be repeated.
func argsByUse(cmd *cobra.Command, args []string) error {
	words := strings.Fields(cmd.Use)[1:]
	if slices.Contains(words, "[COMMAND]") {
		return nil
	}
	usage := "usage: " + cmd.UseLine()
	repeated := false
	for i, w := range words {
		repeated = repeated || strings.Contains(w, "...")
		if !strings.HasPrefix(w, "[") && i >= len(args) {
			return wrongUsage(usage, "%s needs %s", cmd.CommandPath(), strings.TrimSuffix(w, "..."))
		}
	}
	if len(args) > len(words) && !repeated {
		return wrongUsage(usage, "%s does not take %q", cmd.CommandPath(), args[len(words)])
	}
	return nil
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [NAME...]",
		Short:   "Help for a command",
		Example: `  sedge help deploy`,
		RunE: func(help *cobra.Command, names []string) error {
			cmd, rest, err := help.Root().Find(names)
			if err != nil {
				return err
			}
			if len(rest) > 0 && cmd.HasSubCommands() {
				return group(cmd, rest)
			}
			return cmd.Help()
		},
	}
}

// nearest returns those names that a slip of the fingers turns into name.
func nearest(name string, names []string) []string {
	parent := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, n := range names {
		parent.AddCommand(&cobra.Command{Use: n, Run: func(*cobra.Command, []string) {}})
	}
	return parent.SuggestionsFor(name)
}

// either joins names as a question does: a, b or c.
func either(names []string) string {
	slices.Sort(names)
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
