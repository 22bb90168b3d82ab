package ledgertest

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
)

// BenchmarkDials measures how long it takes to note ten thousand dials that come at once.
func BenchmarkDials(b *testing.B, open func() (*ledger.Ledger, error)) {
	const many = 10_000
	l, err := open()
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	k := edge.Token{ID: "k", Uses: many, Expires: time.Now().Add(time.Hour)}
	if err := l.MakeToken(k, sha256.Sum256(secret), ada); err != nil {
		b.Fatal(err)
	}
	proofs := make([]edge.Proof, many)
	together(many, func(i int) {
		proofs[i] = proof(fmt.Sprint("n", i), "k")
		if _, err := l.Join(proofs[i], "192.0.2.1"); err != nil {
			b.Error(err)
		}
	})
	for b.Loop() {
		together(many, func(i int) {
			proofs[i].Counter++
			if n, err := l.Dialled(proofs[i], "192.0.2.1"); err != nil || n.Standing != edge.Member {
				b.Errorf("%s: %v, %v", proofs[i].Name, n.Standing, err)
			}
		})
	}
}
