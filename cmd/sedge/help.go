package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sedge-iot/sedge/cmd/settings"
)

// help prints a command's help: what it does, how that looks, and only then
// the particulars.
func help(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	fmt.Fprintf(w, "%s\n", strings.TrimSpace(about))
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", strings.Trim(cmd.Example, "\n"))
	}
	fmt.Fprintf(w, "\nUsage:\n  %s\n", cmd.UseLine())
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(w, "  also: %s\n", strings.Join(cmd.Aliases, ", "))
	}
	helpCommands(w, cmd)
	if cmd.HasParent() {
		helpFlags(w, "Flags", cmd.LocalFlags())
		helpFlags(w, "Flags of every command", cmd.InheritedFlags())
	} else {
		helpFlags(w, "Flags of every command", cmd.PersistentFlags())
		fmt.Fprintf(w, "\n%s\n", exitCodes)
	}
	fmt.Fprintf(w, "\nEvery flag can be set in the environment too, --no-color as SEDGE_NO_COLOR.\n")
}

func helpCommands(w io.Writer, cmd *cobra.Command) {
	width := 0
	for _, c := range cmd.Commands() {
		width = max(width, len(c.Name()))
	}
	list := func(title, group string) {
		for _, c := range cmd.Commands() {
			if c.GroupID != group || !c.IsAvailableCommand() && c.Name() != "help" {
				continue
			}
			if title != "" {
				fmt.Fprintf(w, "\n%s:\n", title)
				title = ""
			}
			fmt.Fprintf(w, "  %-*s  %s\n", width, c.Name(), c.Short)
		}
	}
	for _, g := range cmd.Groups() {
		list(g.Title, g.ID)
	}
	if len(cmd.Groups()) == 0 {
		list("Commands", "")
	}
}

func helpFlags(w io.Writer, title string, flags *pflag.FlagSet) {
	shown := pflag.NewFlagSet("", pflag.ContinueOnError)
	shown.SortFlags = flags.SortFlags
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		copied := *f
		if env := settings.Variable(f); env != settings.Usual(f) {
			copied.Usage += " [" + env + "]"
		}
		shown.AddFlag(&copied)
	})
	if shown.HasFlags() {
		fmt.Fprintf(w, "\n%s:\n%s", title, shown.FlagUsages())
	}
}
