package ledger_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/ledger/ledgertest"
	"github.com/sedge-iot/sedge/edge/sqlite"
	"github.com/sedge-iot/sedge/functions"
)

func TestALedgerInSQLitePassesTheSuite(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T) ledgertest.Place {
		dir := t.TempDir()
		return func() (*ledger.Ledger, error) { return ledger.Open(dir) }
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
