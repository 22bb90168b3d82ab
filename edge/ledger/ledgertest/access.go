package ledgertest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
)

var operators = map[string]func(*testing.T, Place){
	"An operator is found by the token":          testOperators,
	"The use of a token is noted once an hour":   testOperatorUse,
	"An operator whose token expired is refused": testOperatorExpired,
}

var audits = map[string]func(*testing.T, Place){
	"Each change has one entry of the audit log":          testAudit,
	"The audit log is read page by page and by object":    testAuditPages,
	"What an entry cannot hold is made to fit":            testAuditTexts,
	"An entry that was altered or is missing is found":    testTampering,
	"A change that was only tried or failed has no entry": testAuditDryRun,
}

func testOperators(t *testing.T, place Place) {
	l := place.open(t)
	want := edge.Operator{Name: "bob", Role: edge.Deployer, Scope: "site=home", Expires: time.Now().Add(time.Hour)}
	hash := sha256.Sum256([]byte("bob's token"))
	if err := l.MakeOperator(want, hash, ada); err != nil {
		t.Fatal(err)
	}
	if err := l.MakeOperator(want, sha256.Sum256([]byte("another")), ada); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("a second bob: %v, want %v", err, ledger.ErrConflict)
	}
	got, err := l.OperatorOf(t.Context(), hash)
	if err != nil || got.Name != "bob" || got.Role != edge.Deployer || got.Scope != "site=home" || got.By != "ada" || !got.Expires.Equal(want.Expires) {
		t.Errorf("OperatorOf = %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := l.OperatorOf(t.Context(), sha256.Sum256(nil)); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("an unknown token: %v, want %v", err, ledger.ErrNotFound)
	}
	if list, err := l.Operators(t.Context()); err != nil || len(list) != 1 || list[0].Name != "bob" {
		t.Errorf("Operators = %+v, %v", list, err)
	}
	if err := l.DeleteOperator("bob", ada); err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteOperator("bob", ada); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("deleting bob again: %v, want %v", err, ledger.ErrNotFound)
	}
	if _, err := l.OperatorOf(t.Context(), hash); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("the token after that: %v, want %v", err, ledger.ErrNotFound)
	}
}

func testOperatorUse(t *testing.T, place Place) {
	l := place.open(t)
	hash := sha256.Sum256([]byte("a token"))
	if err := l.MakeOperator(edge.Operator{Name: "bob", Role: edge.Viewer}, hash, ada); err != nil {
		t.Fatal(err)
	}
	first, err := l.OperatorOf(t.Context(), hash)
	if err != nil || first.Used.IsZero() {
		t.Fatalf("used at %v, %v", first.Used, err)
	}
	second, err := l.OperatorOf(t.Context(), hash)
	if err != nil || !second.Used.Equal(first.Used) {
		t.Errorf("used at %v, %v, then at %v", first.Used, err, second.Used)
	}
}

func testOperatorExpired(t *testing.T, place Place) {
	l := place.open(t)
	hash := sha256.Sum256([]byte("a token"))
	o := edge.Operator{Name: "bob", Role: edge.Viewer, Expires: time.Now().Add(-time.Second)}
	if err := l.MakeOperator(o, hash, ada); err != nil {
		t.Fatal(err)
	}
	if _, err := l.OperatorOf(t.Context(), hash); !errors.Is(err, ledger.ErrExpired) {
		t.Errorf("OperatorOf = %v, want %v", err, ledger.ErrExpired)
	}
}

func testAudit(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "f", "a1")
	deploy(t, l, "f", "a1") // is so already
	deploy(t, l, "f", "a2")
	hall := join(t, l, "hall")[0]
	steps := []func() error{
		func() error { _, err := l.Rollback("f", "", asAda); return err },
		func() error { _, err := l.SetEnabled("f", false, asAda); return err },
		func() error { _, err := l.Cordon(hall.ID, true, ada); return err },
		func() error { return l.Note(ada, "function.invoke", "function/f", "by hand") },
		func() error { _, err := l.Delete("f", asAda); return err },
		func() error { _, err := l.AcceptEpoch(ada); return err },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	list, err := l.Audit(t.Context(), ledger.AuditQuery{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, e := range list {
		if e.Number != int64(len(list)-i) || e.Hash == "" || e.Time.IsZero() {
			t.Errorf("entry %d: %+v", i, e)
		}
		got = append(got, e.By+" "+e.Action+" "+e.Object)
	}
	want := []string{
		"ada epoch.accept epoch/" + position(t, l).Epoch, "ada function.delete function/f", "ada function.invoke function/f",
		"ada node.cordon node/hall", "ada function.disable function/f", "ada function.rollback function/f",
		"node/hall node.join node/hall", "ada token.make token/for-hall", "ada function.deploy function/f", "ada function.deploy function/f",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the audit log is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := l.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
}

func testAuditPages(t *testing.T, place Place) {
	l := place.open(t)
	for i := range 25 {
		if err := l.Note(ada, "try", fmt.Sprint("object/", i%2), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	q := ledger.AuditQuery{Object: "object/0", Limit: 5}
	for {
		page, err := l.Audit(t.Context(), q)
		if err != nil || len(page) > 5 {
			t.Fatalf("Audit(%+v) = %d entries, %v", q, len(page), err)
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			got = append(got, e.Detail)
		}
		q.Before = page[len(page)-1].Number
	}
	if want := "24 22 20 18 16 14 12 10 8 6 4 2 0"; strings.Join(got, " ") != want {
		t.Errorf("pages have %v, want %s", got, want)
	}
}

func testAuditTexts(t *testing.T, place Place) {
	l := place.open(t)
	who := ledger.Who{By: strings.Repeat("ä", 300), Address: "a\x00b\xffc"}
	if err := l.Note(who, "try", "o", strings.Repeat("x", 1<<20)); err != nil {
		t.Fatal(err)
	}
	list, err := l.Audit(t.Context(), ledger.AuditQuery{})
	if err != nil || len(list) != 1 {
		t.Fatalf("Audit = %+v, %v", list, err)
	}
	if e := list[0]; e.By != strings.Repeat("ä", 128) || e.Address != "a\uFFFDb\uFFFDc" || len(e.Detail) != 4<<10 {
		t.Errorf("the entry is by %q at %q with %d bytes", e.By, e.Address, len(e.Detail))
	}
	if err := l.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
}

func testAuditDryRun(t *testing.T, place Place) {
	l := place.open(t)
	tried, failed := asAda, asAda
	tried.DryRun, failed.Expect = true, "zz"
	if _, err := l.Deploy(function("f", "a1"), tried); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Deploy(function("f", "a1"), failed); !errors.Is(err, ledger.ErrConflict) {
		t.Fatal(err)
	}
	if list, err := l.Audit(t.Context(), ledger.AuditQuery{}); err != nil || len(list) != 0 {
		t.Errorf("Audit = %+v, %v, want none", list, err)
	}
}

func testTampering(t *testing.T, place Place) {
	fill(t, place)
	for _, tt := range []struct {
		query  string
		broken ledger.BrokenError
	}{
		{`UPDATE audit SET detail = 'nothing' WHERE number = 1003`, ledger.BrokenError{Number: 1003}},
		{`UPDATE audit SET hash = 'ab' WHERE number = 1002`, ledger.BrokenError{Number: 1002}},
		{`UPDATE audit SET time = time + 1 WHERE number = 1001`, ledger.BrokenError{Number: 1001}},
		{`DELETE FROM audit WHERE number = 1000`, ledger.BrokenError{Number: 1000, Missing: true}},
		{`DELETE FROM audit WHERE number > 998`, ledger.BrokenError{Number: 999, Missing: true}},
		{`UPDATE audit SET number = 1 + 998 WHERE number = 998`, ledger.BrokenError{Number: 998, Missing: true}},
		{`DELETE FROM audit WHERE number = 1`, ledger.BrokenError{Number: 1, Missing: true}},
		{`DELETE FROM audit`, ledger.BrokenError{Number: 1, Missing: true}},
	} {
		if err := place.Alter(tt.query); err != nil {
			t.Fatal(err)
		}
		l, err := place.Open()
		if err != nil {
			t.Fatal(err)
		}
		err = l.VerifyAudit(t.Context())
		if broken, ok := errors.AsType[*ledger.BrokenError](err); !ok || *broken != tt.broken {
			t.Errorf("%s: %v, want %v", tt.query, err, &tt.broken)
		}
		l.Close()
	}
}

// fill makes a ledger with 1,005 entries of the audit log, more than Verify reads at once.
func fill(t *testing.T, place Place) {
	t.Helper()
	l := place.open(t)
	together(1005, func(int) {
		if err := l.Note(ada, "try", "o", "why"); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(l.VerifyAudit(t.Context()), l.Close()); err != nil {
		t.Fatal(err)
	}
}
