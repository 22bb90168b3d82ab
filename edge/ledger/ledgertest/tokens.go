package ledgertest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
)

var tokens = map[string]func(*testing.T, Place){
	"A join token is listed until it is revoked":              testTokens,
	"Of fifty who come with a token for one, one joins":       testTokenRace,
	"Who cannot join is told why, and that costs no use":      testRefusals,
	"Wrong secrets burn a join token":                         testBurn,
	"A join token that would last too long is not made":       testTokenLimits,
	"A node that comes with a token for approval has to wait": testApproval,
}

func testTokens(t *testing.T, place Place) {
	l := place.open(t)
	expires := time.Now().Add(time.Hour)
	want := edge.Token{ID: "k", Labels: map[string]string{"site": "home"}, Uses: 3, Approval: true, Expires: expires}
	token(t, l, want)
	list, err := l.Tokens(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("Tokens = %+v, %v", list, err)
	}
	got := list[0]
	if got.ID != "k" || got.Labels["site"] != "home" || got.Uses != 3 || !got.Approval || got.By != "ada" || !got.Expires.Equal(expires) || got.Made.IsZero() {
		t.Errorf("Tokens = %+v\nwant %+v", got, want)
	}
	if err := l.MakeToken(want, sha256.Sum256(secret), ada); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("the same again: %v, want %v", err, ledger.ErrConflict)
	}
	if err := l.RevokeToken("k", ada); err != nil {
		t.Fatal(err)
	}
	if err := l.RevokeToken("k", ada); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("revoking it again: %v, want %v", err, ledger.ErrNotFound)
	}
	if _, err := l.Join(proof("hall", "k"), ""); !errors.Is(err, ledger.ErrNoToken) {
		t.Errorf("joining with it: %v, want %v", err, ledger.ErrNoToken)
	}
}

func testTokenRace(t *testing.T, place Place) {
	l := place.open(t)
	token(t, l, edge.Token{ID: "k", Uses: 1})
	var joined, late atomic.Int64
	together(50, func(i int) {
		switch _, err := l.Join(proof(fmt.Sprint("n", i), "k"), "192.0.2.1"); {
		case err == nil:
			joined.Add(1)
		case errors.Is(err, ledger.ErrUsedUp):
			late.Add(1)
		default:
			t.Error(err)
		}
	})
	list, err := l.Nodes(t.Context(), ledger.NodeQuery{})
	if joined.Load() != 1 || late.Load() != 49 || len(list) != 1 || err != nil {
		t.Errorf("%d joined, %d came late, there are %d nodes, %v; want 1, 49 and 1", joined.Load(), late.Load(), len(list), err)
	}
}

func testRefusals(t *testing.T, place Place) {
	l := place.open(t)
	join(t, l, "hall")
	token(t, l, edge.Token{ID: "k", Uses: 1})
	soon := time.Now().Add(time.Second)
	token(t, l, edge.Token{ID: "short", Uses: 1, Expires: soon})
	wrong := proof("attic", "k")
	wrong.Join.Secret = []byte("another")
	without := proof("attic", "k")
	without.Join = nil
	taken := proof("attic", "k")
	taken.Name = "hall"
	strange, unnamed, loud := proof("attic", "k\x00"), proof("attic", "k"), proof("attic", "k")
	unnamed.Name = "\x00"
	loud.Labels = map[string]string{"a": strings.Repeat("x", 1<<16)}
	<-time.After(time.Until(soon))
	for name, tt := range map[string]struct {
		p    edge.Proof
		want error
	}{
		"no token":      {without, ledger.ErrNoToken},
		"unknown token": {proof("attic", "unknown"), ledger.ErrNoToken},
		"wrong secret":  {wrong, ledger.ErrWrongSecret},
		"expired":       {proof("attic", "short"), ledger.ErrExpired},
		"used up":       {proof("attic", "for-hall"), ledger.ErrUsedUp},
		"name taken":    {taken, ledger.ErrConflict},
		"strange token": {strange, ledger.ErrNoToken},
		"no name":       {unnamed, ledger.ErrInvalid},
		"long label":    {loud, ledger.ErrInvalid},
	} {
		if n, err := l.Join(tt.p, "192.0.2.1"); !errors.Is(err, tt.want) || n.ID != "" {
			t.Errorf("%s: %+v, %v, want %v", name, n, err, tt.want)
		}
	}
	if _, err := l.Join(proof("attic", "k"), "192.0.2.1"); err != nil {
		t.Errorf("with the token after all that: %v", err)
	}
}

func testBurn(t *testing.T, place Place) {
	l := place.open(t)
	token(t, l, edge.Token{ID: "k", Uses: 5})
	wrong := proof("guess", "k")
	wrong.Join.Secret = []byte("a guess")
	var refused atomic.Int64
	together(30, func(int) {
		switch _, err := l.Join(wrong, "203.0.113.5"); {
		case errors.Is(err, ledger.ErrWrongSecret):
			refused.Add(1)
		case !errors.Is(err, ledger.ErrBurnt):
			t.Errorf("a wrong secret: %v", err)
		}
	})
	if refused.Load() != 20 {
		t.Errorf("%d wrong secrets were looked at, want 20", refused.Load())
	}
	if _, err := l.Join(proof("hall", "k"), "192.0.2.1"); !errors.Is(err, ledger.ErrBurnt) {
		t.Errorf("the right secret after that: %v, want %v", err, ledger.ErrBurnt)
	}
	list, err := l.Audit(t.Context(), ledger.AuditQuery{Object: "token/k"})
	if err != nil || len(list) != 21 || list[0].Address != "203.0.113.5" {
		t.Errorf("the audit log has %d entries of the token, %v; want its making and 20 wrong secrets", len(list), err)
	}
}

func testTokenLimits(t *testing.T, place Place) {
	l := place.open(t)
	now := time.Now()
	for name, k := range map[string]edge.Token{
		"too long": {ID: "a", Uses: 1, Expires: now.Add(edge.MaxTokenTTL + time.Minute)},
		"past":     {ID: "b", Uses: 1, Expires: now.Add(-time.Minute)},
		"no use":   {ID: "c", Uses: 0, Expires: now.Add(time.Minute)},
	} {
		if err := l.MakeToken(k, sha256.Sum256(secret), ada); err == nil {
			t.Errorf("%s: a token was made", name)
		}
	}
	if list, err := l.Tokens(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("Tokens = %+v, %v, want none", list, err)
	}
}

func testApproval(t *testing.T, place Place) {
	l := place.open(t)
	token(t, l, edge.Token{ID: "k", Uses: 1, Approval: true})
	n, err := l.Join(proof("hall", "k"), "192.0.2.1")
	if err != nil || n.Standing != edge.Waiting {
		t.Fatalf("joined as %s, %v, want %s", n.Standing, err, edge.Waiting)
	}
	if n, err = l.Approve(n.ID, ada); err != nil || n.Standing != edge.Member {
		t.Errorf("approved as %s, %v, want %s", n.Standing, err, edge.Member)
	}
}
