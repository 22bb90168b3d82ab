package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// The exit codes of every verb; [exitCodes] tells them to people.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnreachable = 4
	exitFunction    = 5
	exitAuth        = 6
)

const exitCodes = `Exit codes:
  0  done                          4  hub or broker unreachable, or time is up
  1  failed; diff: it differs      5  the function ran and returned an error
  2  wrong usage or manifest       6  not allowed: no token, or a wrong one
  3  not found`

// An exitError ends the program with its code and without a word: what there
// was to say has been said on stdout.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// A codedError ends the program with a code of its own.
type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

// A ranError says that the function itself failed.
type ranError struct{ failure functions.Failure }

func (e *ranError) Error() string { return e.failure.Message }

// wrongUsage is an error about the command line itself.
func wrongUsage(hint, format string, args ...any) error {
	return &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// exitCode maps an error to the program's exit code.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[exitError](err); ok {
		return int(e)
	}
	if e, ok := errors.AsType[*codedError](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*ranError](err); ok {
		return exitFunction
	}
	if e, ok := errors.AsType[*edge.Error](err); ok {
		switch e.Code {
		case edge.Invalid, edge.TooLarge, edge.Method:
			return exitUsage
		case edge.NotFound:
			return exitNotFound
		case edge.Timeout, edge.Unavailable:
			return exitUnreachable
		case edge.Denied, edge.Forbidden, edge.Misdirected:
			return exitAuth
		}
		return exitFailure
	}
	if _, ok := errors.AsType[*url.Error](err); ok || errors.Is(err, context.DeadlineExceeded) {
		return exitUnreachable
	}
	return exitFailure
}

// exit says what went wrong on stderr, as people or as programs read it, and
// returns the exit code.
func (sh *shell) exit(err error) int {
	code := exitCode(err)
	if _, quiet := errors.AsType[exitError](err); err == nil || quiet {
		return code
	}
	if errors.Is(err, context.Canceled) {
		return exitFailure // the user knows: it was their ^C
	}
	told := tell(err)
	if sh.output == "json" {
		data, _ := json.Marshal(map[string]any{"error": told}) // text, always encodable
		fmt.Fprintf(sh.talk, "%s\n", data)
		return code
	}
	between := " "
	if strings.Contains(told.Message, "\n") {
		between = "\n" // a list reads better below
	}
	fmt.Fprintf(sh.talk, "%s%s%s\n", sh.paint(sh.talk, red, "error:"), between, told.Message)
	if e, ran := errors.AsType[*ranError](err); ran && e.failure.Stack != "" {
		sh.say("%s", strings.TrimRight(e.failure.Stack, "\n"))
	}
	if told.Hint != "" {
		fmt.Fprintf(sh.talk, "%s %s\n", sh.paint(sh.talk, dim, "hint:"), strings.ReplaceAll(told.Hint, "\n", "\n      "))
	}
	return code
}

// tell brings any error into the shape in which the API tells its own.
func tell(err error) *edge.Error {
	told := &edge.Error{Code: edge.Internal, Message: err.Error()}
	if e, ok := errors.AsType[*edge.Error](err); ok {
		told.Code, told.Hint, told.Faults = e.Code, e.Hint, e.Faults
		return told
	}
	if e, ok := errors.AsType[*ranError](err); ok {
		told.Code = edge.Code(e.failure.Code)
		return told
	}
	if exitCode(err) == exitUnreachable {
		told.Code = edge.Unavailable
	}
	return told
}
