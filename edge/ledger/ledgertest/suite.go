// Package ledgertest is the suite that a ledger passes in every database, and a real
// PostgreSQL for tests.
//
// [Run] runs the suite; a [Postgres] is a child process that dies with its parent.
package ledgertest

import (
	"testing"

	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

// A Place is where a ledger is: it opens it, again and again.
type Place func() (*ledger.Ledger, error)

// Run runs the suite. Each test has a place of its own, which is empty.
func Run(t *testing.T, place func(*testing.T) Place) {
	for _, group := range []map[string]func(*testing.T, Place){changes} {
		for name, run := range group {
			t.Run(name, func(t *testing.T) { run(t, place(t)) })
		}
	}
}

// open opens the ledger for the length of the test.
func (p Place) open(t *testing.T) *ledger.Ledger {
	t.Helper()
	l, err := p()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

var (
	ada   = ledger.Who{By: "ada", Address: "192.0.2.7"}
	asAda = ledger.Intent{By: "ada", Address: "192.0.2.7"}
)

func function(name, revision string) functions.Function {
	var f functions.Function
	f.Manifest.Metadata.Name = name
	f.Manifest.Spec.Env = map[string]string{"REVISION": revision}
	f.Code = "export default () => 1"
	f.Revision = functions.Revision(revision)
	return f
}

func deploy(t *testing.T, l *ledger.Ledger, name, revision string) ledger.Result {
	t.Helper()
	r, err := l.Deploy(function(name, revision), asAda)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// must fails the test on an error and returns what there was beside it.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
