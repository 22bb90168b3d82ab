package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

func newDiff(sh *shell) *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "diff [FUNCTION] [FROM] [TO]",
		Short: "Show how functions differ: from the hub's, or between revisions",
		Long: `Show how the functions that you have differ from those of the hub; or how two
revisions of one function differ: the one before from the current one, if you
name none. Exits with 0 if nothing differs, 1 if something does, 2 or more on
an error.`,
		Example: `  sedge diff -f night-light
  sedge diff night-light           # what the last deploy changed
  sedge diff night-light 3 7       # numbers of sedge history, or revisions`,
		RunE: func(cmd *cobra.Command, args []string) error {
			differs, err := sh.diff(cmd.Context(), files, args)
			switch {
			case exitCode(err) == exitFailure: // which means "differs" here
				return &codedError{err, exitUsage}
			case err == nil && differs:
				return exitError(exitFailure)
			}
			return err
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "`FILE`: a manifest, a folder with manifests, or - for stdin")
	return sh.hubVerb(cmd)
}

func (sh *shell) diff(ctx context.Context, files, args []string) (differs bool, err error) {
	switch {
	case len(files) > 0 && len(args) > 0:
		return false, wrongUsage("sedge diff --help", "either -f or the name of a function, not both")
	case len(args) > 0:
		return sh.diffRevisions(ctx, args[0], args[1:])
	}
	all, err := sh.sources(files)
	if err != nil {
		return false, err
	}
	for _, f := range all {
		one, err := sh.diffWithHub(ctx, f)
		if err != nil {
			return false, err
		}
		differs = differs || one
	}
	return differs, nil
}

// diffWithHub prints how f differs from the hub's function of that name.
func (sh *shell) diffWithHub(ctx context.Context, f functions.Function) (bool, error) {
	var theirs functions.Function
	err := sh.ask(ctx, "", func(c *client.Client) error {
		d, err := c.Function(ctx, f.Name())
		theirs = d.Function
		return err
	})
	if e, ok := errors.AsType[*edge.Error](err); ok && e.Code == edge.NotFound {
		err = nil // a new one: all of it differs from nothing
	}
	if err != nil {
		return false, err
	}
	return sh.printDiff("hub/"+f.Name(), theirs, "here/"+f.Name(), f)
}

func (sh *shell) diffRevisions(ctx context.Context, name string, revisions []string) (bool, error) {
	var from, to functions.Function
	err := sh.ask(ctx, name, func(c *client.Client) (err error) {
		if len(revisions) == 0 {
			before, err := before(ctx, c, name)
			if err != nil {
				return err
			}
			revisions = []string{before}
		}
		if from, err = c.Revision(ctx, name, revisions[0]); err != nil {
			return err
		}
		if len(revisions) > 1 {
			to, err = c.Revision(ctx, name, revisions[1])
			return err
		}
		d, err := c.Function(ctx, name)
		to = d.Function
		return err
	})
	if err != nil {
		return false, err
	}
	return sh.printDiff(name+"@"+from.Revision.Short(), from, name+"@"+to.Revision.Short(), to)
}

// before returns the last revision of the history that is not the current one.
func before(ctx context.Context, c *client.Client, name string) (string, error) {
	history, err := c.History(ctx, name)
	if err != nil {
		return "", err
	}
	var current functions.Revision
	for _, r := range history {
		if r.Current {
			current = r.Revision
		}
	}
	for _, r := range history {
		if r.Revision != current && r.Revision != "" {
			return string(r.Revision), nil
		}
	}
	return "", &edge.Error{Code: edge.NotFound, Message: name + " has no revision but the current one", Hint: "sedge diff -f DIR compares it with what you have"}
}

func (sh *shell) printDiff(fromName string, from functions.Function, toName string, to functions.Function) (bool, error) {
	if from.Revision == to.Revision {
		return false, nil
	}
	var out bytes.Buffer
	for _, part := range []struct {
		name string
		text func(functions.Function) ([]byte, error)
	}{{"/function.yaml", manifestText}, {"/code", codeText}} {
		a, err := part.text(from)
		if err != nil {
			return false, err
		}
		b, err := part.text(to)
		if err != nil {
			return false, err
		}
		out.Write(diff.Diff(fromName+part.name, a, toName+part.name, b))
	}
	if done, err := sh.structured(map[string]string{"from": fromName, "to": toName, "diff": out.String()}); done {
		return true, err
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "diff ") {
			continue
		}
		line = strings.TrimSuffix(line, "\n")
		fmt.Fprintln(sh.out, sh.paint(sh.out, diffColor(line), line))
	}
	return true, nil
}

func diffColor(line string) color {
	switch {
	case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"):
		return bold
	case strings.HasPrefix(line, "+"):
		return green
	case strings.HasPrefix(line, "-"):
		return red
	case strings.HasPrefix(line, "@@"):
		return dim
	}
	return ""
}

// manifestText returns a function's manifest as YAML, without the code.
func manifestText(f functions.Function) ([]byte, error) {
	if f.Revision == "" {
		return nil, nil
	}
	m := f.Manifest
	m.Spec.Source = functions.Source{Image: m.Spec.Source.Image}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("print manifest: %w", err)
	}
	text, err := yaml.JSONToYAML(data)
	if err != nil {
		return nil, fmt.Errorf("print manifest: %w", err)
	}
	return text, nil
}

func codeText(f functions.Function) ([]byte, error) {
	if f.Code == "" || strings.HasSuffix(f.Code, "\n") {
		return []byte(f.Code), nil
	}
	return []byte(f.Code + "\n"), nil
}
