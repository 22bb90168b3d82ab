package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

func TestEveryErrorHasTheExitCodeThatHelpPromises(t *testing.T) {
	for want, errs := range map[int][]error{
		exitOK:          {nil},
		exitFailure:     {errors.New("x"), code(edge.Conflict), code(edge.NoRoom), code(edge.Internal), exitError(1), context.Canceled},
		exitUsage:       {code(edge.Invalid), code(edge.TooLarge), code(edge.Method), wrongUsage("", "x"), exitError(2), &codedError{errors.New("x"), 2}},
		exitNotFound:    {code(edge.NotFound)},
		exitUnreachable: {code(edge.Unavailable), code(edge.Timeout), context.DeadlineExceeded},
		exitFunction:    {&ranError{functions.Failure{Message: "x"}}},
		exitAuth:        {code(edge.Denied), code(edge.Forbidden), code(edge.Misdirected)},
	} {
		for _, err := range errs {
			if got := exitCode(err); got != want {
				t.Errorf("exitCode(%v) = %d, want %d", err, got, want)
			}
			if err == nil {
				continue
			}
			if got := exitCode(fmt.Errorf("doing: %w", err)); got != want {
				t.Errorf("exitCode(wrapped %v) = %d, want %d", err, got, want)
			}
		}
	}
}

func code(c edge.Code) error { return &edge.Error{Code: c, Message: string(c)} }

func TestAnErrorSaysWhatFailedWhyAndWhatNext(t *testing.T) {
	err := fmt.Errorf("deploy hall: %w", &edge.Error{Code: edge.NoRoom, Message: "the disk is full", Hint: "make room"})
	for output, want := range map[string]string{
		"table": "error: deploy hall: the disk is full\nhint: make room\n",
		"json":  `{"error":{"code":"no_room","message":"deploy hall: the disk is full","hint":"make room"}}` + "\n",
	} {
		var talk bytes.Buffer
		sh := &shell{talk: &talk, output: output, quiet: true, lookup: none}
		if got := sh.exit(err); got != exitFailure || talk.String() != want {
			t.Errorf("as %s it exits with %d and says %q, want %d and %q", output, got, talk.String(), exitFailure, want)
		}
	}
}
