// Package ledgertest is the suite that a ledger passes in every database, and a real
// PostgreSQL for tests.
//
// [Run] runs the suite; a [Postgres] is a child process that dies with its parent.
package ledgertest

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

// A Place is where a ledger is.
type Place struct {
	Open  func() (*ledger.Ledger, error) // again and again
	Alter func(query string) error       // writes behind the ledger's back; it is closed by then
}

// Run runs the suite. Each test has a place of its own, which is empty.
func Run(t *testing.T, place func(*testing.T) Place) {
	for _, group := range []map[string]func(*testing.T, Place){changes, nodes, dials, tokens, operators, audits, rollouts, plans, upgrades} {
		for name, run := range group {
			t.Run(name, func(t *testing.T) { run(t, place(t)) })
		}
	}
}

// open opens the ledger for the length of the test.
func (p Place) open(t *testing.T) *ledger.Ledger {
	t.Helper()
	l, err := p.Open()
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

// secret is what the tokens of a test are made with.
var secret = []byte("a secret of a join token")

// token makes a join token.
func token(t *testing.T, l *ledger.Ledger, k edge.Token) {
	t.Helper()
	if k.Expires.IsZero() {
		k.Expires = time.Now().Add(time.Hour)
	}
	if err := l.MakeToken(k, sha256.Sum256(secret), ada); err != nil {
		t.Fatal(err)
	}
}

// proof is that of a machine which dials for the first time, with a token.
func proof(name, token string) edge.Proof {
	key := sha256.Sum256([]byte(name))
	return edge.Proof{
		Key: key[:], Counter: 1, Name: name, Version: "v1.0.0", Platform: "linux/arm/6",
		Join: &edge.Join{Token: token, Secret: secret},
	}
}

// join adds nodes with a token for as many.
func join(t *testing.T, l *ledger.Ledger, names ...string) (list []edge.Node) {
	t.Helper()
	id := "for-" + names[0]
	token(t, l, edge.Token{ID: id, Uses: len(names)})
	for _, name := range names {
		n, err := l.Join(proof(name, id), "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}
