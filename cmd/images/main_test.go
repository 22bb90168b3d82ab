package main

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestAMissingProgramSaysHowToBuildIt(t *testing.T) {
	err := run(t.TempDir(), "")
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "run make cross first") {
		t.Errorf("run = %v, want an error that says: run make cross first", err)
	}
}
