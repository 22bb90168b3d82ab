package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// A shell is what all verbs share: the streams, the global flags and the way
// to the hub. stdout carries the answer, stderr the talk.
type shell struct {
	in     *bufio.Reader // one, for several questions are answered from it
	out    io.Writer
	talk   io.Writer
	lookup func(string) (string, bool) // of environment variables

	output    string // table, wide, json, yaml or name
	quiet     bool
	noColor   bool
	hub       string
	token     string
	tokenFile string
	hubCA     string // file with the authority of the hub's certificate, or ""
	node      string // that a verb is about, or ""

	kubeconfig  string // the cluster to speak to instead of a hub, if one of these is set
	kubeContext string
}

var outputs = []string{"table", "wide", "json", "yaml", "name"}

func (sh *shell) addFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVarP(&sh.output, "output", "o", "table", "how to print, `FORM`: "+strings.Join(outputs, ", "))
	f.BoolVarP(&sh.quiet, "quiet", "q", false, "say nothing on stderr but errors")
	f.BoolVar(&sh.noColor, "no-color", false, "no colors; NO_COLOR is heeded too")
	cobra.CheckErr(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(outputs, cobra.ShellCompDirectiveNoFileComp)))
}

// checkOutput refuses an output format that is none.
func (sh *shell) checkOutput() error {
	if slices.Contains(outputs, sh.output) {
		return nil
	}
	was := sh.output
	sh.output = "table"
	return wrongUsage("choose one of "+strings.Join(outputs, ", "), "unknown output format %q", was)
}

// say tells something on stderr, unless the user wants quiet.
func (sh *shell) say(format string, args ...any) {
	if !sh.quiet {
		fmt.Fprintf(sh.talk, format+"\n", args...)
	}
}

// structured prints v as JSON or YAML if the user asked for that, and reports
// whether it did.
func (sh *shell) structured(v any) (bool, error) {
	if sh.output != "json" && sh.output != "yaml" {
		return false, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return true, fmt.Errorf("print: %w", err)
	}
	data := b.Bytes()
	if sh.output == "yaml" {
		var err error
		if data, err = yaml.JSONToYAML(data); err != nil {
			return true, fmt.Errorf("print: %w", err)
		}
	}
	_, err := sh.out.Write(data)
	return true, err
}

// line prints v as one line of JSON if the user asked for JSON or YAML, and
// reports whether it did: the form of a stream.
func (sh *shell) line(v any) (bool, error) {
	if sh.output == "yaml" {
		fmt.Fprintln(sh.out, "---")
		return sh.structured(v)
	}
	if sh.output != "json" {
		return false, nil
	}
	enc := json.NewEncoder(sh.out)
	enc.SetEscapeHTML(false)
	return true, enc.Encode(v)
}

// A color is the number of an ANSI escape.
type color string

const (
	bold   color = "1"
	dim    color = "2"
	red    color = "31"
	green  color = "32"
	yellow color = "33"
)

// paint colors a text for w, if w is a terminal and colors are welcome.
func (sh *shell) paint(w io.Writer, c color, text string) string {
	if c == "" || text == "" || !sh.colors(w) {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

func (sh *shell) colors(w io.Writer) bool {
	if v, _ := sh.lookup("NO_COLOR"); v != "" || sh.noColor {
		return false
	}
	if v, _ := sh.lookup("TERM"); v == "dumb" {
		return false
	}
	return terminal(w)
}

// terminal reports whether w is a screen that a person looks at.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
