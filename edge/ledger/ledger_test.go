package ledger_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/ledger/ledgertest"
	"github.com/sedge-iot/sedge/edge/sqlite"
	"github.com/sedge-iot/sedge/functions"
)

func TestALedgerInSQLitePassesTheSuite(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T) ledgertest.Place {
		dir := t.TempDir()
		return ledgertest.Place{
			Open:  func() (*ledger.Ledger, error) { return ledger.Open(dir) },
			Alter: func(query string) error { return alter(dir, os.DirFS("schema"), query) },
		}
	})
}

// alter writes into the ledger in dir, whose schema is that of the files.
func alter(dir string, schema fs.FS, query string) error {
	db, err := sqlite.Open(filepath.Join(dir, "hub.db"), schema)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *sqlite.Tx) error {
		_, err := tx.Exec(query)
		return err
	})
	return errors.Join(err, db.Close())
}

func TestALedgerOfAnEarlierProgramGoesOnWhereItWas(t *testing.T) {
	dir := t.TempDir()
	first, err := os.ReadFile("schema/001_ledger.sql")
	if err != nil {
		t.Fatal(err)
	}
	earlier := fstest.MapFS{"001_ledger.sql": {Data: first}}
	for _, query := range []string{
		`INSERT INTO meta (name, value) VALUES ('epoch', 'E')`,
		`INSERT INTO revisions (name, revision, body) VALUES ('f', 'aa', '{}')`,
		`INSERT INTO functions (name, revision, enabled) VALUES ('f', 'aa', 1)`,
		`INSERT INTO history (number, name, action, revision, time, by) VALUES (41, 'f', 'deploy', 'aa', 1, 'ada')`,
		`INSERT INTO history (number, name, action, revision, time, by) VALUES (42, 'g', 'delete', 'bb', 1, 'ada')`,
		`DELETE FROM history WHERE number = 42`,
	} {
		if err := alter(dir, earlier, query); err != nil {
			t.Fatal(err)
		}
	}
	l := open(t, dir)
	if at, err := l.Position(t.Context()); err != nil || at != (edge.Position{Epoch: "E", Revision: 42}) {
		t.Errorf("Position = %v, %v, want 42 of E", at, err)
	}
	if r, err := l.SetEnabled("f", false, ledger.Intent{By: "ada"}); err != nil || r.At.Revision != 43 {
		t.Errorf("the next change leads to %v, %v, want 43", r.At, err)
	}
	if h, err := l.History(t.Context(), "f"); err != nil || len(h) != 2 || h[0].Number != 43 || h[1].Number != 41 || !h[1].Current {
		t.Errorf("History = %+v, %v", h, err)
	}
}

func TestTheAuditLogIsKeptUpToABoundAndCanBeVerifiedFromThere(t *testing.T) {
	l := open(t, t.TempDir())
	ledger.KeepAudit(l, 500)
	for range 1_600 {
		if err := l.Note(ledger.Who{By: "ada"}, "try", "o", ""); err != nil {
			t.Fatal(err)
		}
	}
	// It was shortened to 500 once there were 1,500.
	all, err := l.Audit(t.Context(), ledger.AuditQuery{Limit: 1_000})
	if err != nil || len(all) != 600 || all[0].Number != 1_600 || all[599].Number != 1_001 {
		t.Errorf("the audit log has %d entries, %v; want those from 1,001 to 1,600", len(all), err)
	}
	if err := l.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
}

func FuzzWhateverIsNotedCanBeVerified(f *testing.F) {
	f.Add("ada", "192.0.2.1", "try", "o", "why")
	f.Add("\xff\x00", "\"", "\n", "\u2028", strings.Repeat("\xe2\x82", 4096))
	l, err := ledger.Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	ledger.KeepAudit(l, 10)
	f.Fuzz(func(t *testing.T, by, address, action, object, detail string) {
		if err := l.Note(ledger.Who{By: by, Address: address}, action, object, detail); err != nil {
			t.Fatal(err)
		}
		list, err := l.Audit(t.Context(), ledger.AuditQuery{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{list[0].By, list[0].Address, list[0].Action, list[0].Object, list[0].Detail} {
			if !utf8.ValidString(text) || strings.Contains(text, "\x00") || len(text) > 5<<10 {
				t.Errorf("%q was kept", text)
			}
		}
		if err := l.VerifyAudit(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func open(t *testing.T, dir string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

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
	r, err := l.Deploy(function(name, revision), ledger.Intent{By: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestASecondHubIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := ledger.Open(dir)
	if _, ok := errors.AsType[*sqlite.LockedError](err); !ok {
		t.Errorf("Open = %v, want a LockedError", err)
	}
}

func TestADamagedLedgerIsRefusedAndLeftAsItIs(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	deploy(t, l, "f", "a1")
	l.Close()
	path := filepath.Join(dir, "hub.db")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[1024:])
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(dir); !sqlite.Damaged(err) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("Open = %v, want damage and what to do", err)
	}
	if got, err := os.ReadFile(path); err != nil || !slices.Equal(got, data) {
		t.Errorf("the file was changed, %v", err)
	}
}
