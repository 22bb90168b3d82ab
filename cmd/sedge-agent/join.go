package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/member"
	"github.com/sedge-iot/sedge/edge/selector"
)

// A verb is something that the program does beside running a node.
type verb struct {
	name, args, does string
	run              func(ctx context.Context, o *verbOptions, args []string, out io.Writer) error
}

// verbOptions are the flags of the verbs.
type verbOptions struct {
	node.Options
	token, tokenFile string
	labels           string
}

var verbs = []verb{
	{"join", " URL", "makes this node one of the hub at URL, with a token of: sedge token create", join},
	{"leave", "", "has the node forget its hub; what it runs it goes on running", leave},
	{"hold", " [WHY]", "lets the hub change nothing on this node, until release", hold},
	{"release", "", "lets the hub change what runs again", release},
}

// verbList tells what verbs there are, a line each.
func verbList() string {
	var b strings.Builder
	for _, v := range verbs {
		fmt.Fprintf(&b, "  sedge-agent %-14s %s\n", v.name+v.args, v.does)
	}
	return b.String()
}

// verbOf returns the verb that the arguments begin with, or nil.
func verbOf(args []string) *verb {
	for i, v := range verbs {
		if len(args) > 0 && args[0] == v.name {
			return &verbs[i]
		}
	}
	return nil
}

func (v *verb) do(ctx context.Context, args []string, out io.Writer) error {
	var o verbOptions
	flags := pflag.NewFlagSet("sedge-agent "+v.name, pflag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(out, "sedge-agent %s%s %s.\n\nFlags:\n%s", v.name, v.args, v.does, flags.FlagUsages())
	}
	flags.StringVar(&o.DataDir, "data-dir", node.DataDir(os.LookupEnv), "`DIR` where everything is kept")
	if v.name == "join" {
		flags.StringVar(&o.Name, "node-name", node.Hostname(), "`NAME` of this node")
		flags.StringVar(&o.token, "token", "", "the `TOKEN`, S1…")
		flags.StringVar(&o.tokenFile, "token-file", "", "`FILE` with the token")
		flags.StringVar(&o.labels, "labels", "", "`LABELS` of this node, like site=home,room=hall; those of the token count before them")
		flags.StringVar(&o.Hub.CAFile, "hub-ca", "", "`FILE` with further certificate authorities, PEM, like that of a proxy that opens TLS")
	}
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := settings.FromEnvironment(flags, os.LookupEnv); err != nil {
		return err
	}
	return v.run(ctx, &o, flags.Args(), out)
}

func join(ctx context.Context, o *verbOptions, args []string, out io.Writer) error {
	const line = "sedge-agent join https://HOST:7443 --token S1…, as sedge token create prints it"
	if len(args) != 1 {
		return &edge.Error{Code: edge.Invalid, Message: "which hub?", Hint: line}
	}
	text := o.token
	if text == "" && o.tokenFile != "" {
		data, err := settings.Read(o.tokenFile)
		if err != nil {
			return fmt.Errorf("read token: %w", err)
		}
		text = string(data)
	}
	if text = strings.TrimSpace(text); text == "" {
		return &edge.Error{Code: edge.Invalid, Message: "the token is missing", Hint: line}
	}
	invitation, err := edge.ParseInvitation(text)
	if err != nil {
		return &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("--token: %s", err), Hint: line}
	}
	labels, err := selector.ParseLabels(o.labels)
	if err != nil {
		return err
	}
	how := member.JoinOptions{Name: o.Name, Labels: labels, Version: settings.Version(), Clock: node.Clock}
	if o.Hub.CAFile != "" {
		if how.Extra, err = settings.Read(o.Hub.CAFile); err != nil {
			return fmt.Errorf("read --hub-ca: %w", err)
		}
	}
	told := ""
	how.Waits = func(why string) {
		if why != told {
			fmt.Fprintln(out, "waiting:", why)
			told = why
		}
	}
	hub, err := member.Join(ctx, o.DataDir, args[0], invitation, how)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "joined the hub at %s as %s\nRun the node, or restart it if it runs: sedge-agent --mqtt mqtt://localhost:1883\n", args[0], hub.Name)
	return nil
}

func leave(_ context.Context, o *verbOptions, _ []string, out io.Writer) error {
	if err := member.Leave(o.DataDir); err != nil {
		return err
	}
	fmt.Fprintln(out, "left the hub; on the hub: sedge node remove NAME")
	return nil
}

func hold(_ context.Context, o *verbOptions, args []string, out io.Writer) error {
	if err := member.Hold(o.DataDir, strings.Join(args, " ")); err != nil {
		return err
	}
	fmt.Fprintln(out, "the hub changes nothing on this node, until: sedge-agent release")
	return nil
}

func release(_ context.Context, o *verbOptions, _ []string, out io.Writer) error {
	if err := member.Release(o.DataDir); err != nil {
		return err
	}
	fmt.Fprintln(out, "the hub may change what runs on this node")
	return nil
}
