package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/ledger/ledgertest"
	"github.com/sedge-iot/sedge/edge/ledger/postgres"
)

var server *ledgertest.Postgres

func TestMain(m *testing.M) {
	var err error
	if server, err = ledgertest.StartPostgres(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func place(t *testing.T) ledgertest.Place {
	dsn := server.Database(t)
	return ledgertest.Place{
		Open:  func() (*ledger.Ledger, error) { return postgres.Open(t.Context(), dsn) },
		Alter: func(query string) error { return alter(dsn, query) },
	}
}

func alter(dsn, query string) error {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	_, err = db.Exec(query)
	return errors.Join(err, db.Close())
}

func open(t *testing.T, dsn string) *ledger.Ledger {
	t.Helper()
	l, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestALedgerInPostgreSQLPassesTheSuite(t *testing.T) { ledgertest.Run(t, place) }

func TestReplicasKeepOneBook(t *testing.T) { ledgertest.RunReplicas(t, place) }

func TestReplicasThatStartTogetherMakeOneLedger(t *testing.T) {
	dsn := server.Database(t)
	var mu sync.Mutex
	epochs := map[string]bool{}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			l, err := postgres.Open(t.Context(), dsn)
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			at, err := l.Position(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			epochs[at.Epoch] = true
			mu.Unlock()
		})
	}
	all.Wait()
	if len(epochs) != 1 {
		t.Errorf("the replicas begin in %v, want one epoch", epochs)
	}
}

func TestAReplicaIsToldOfAnothersChangesAlsoAfterItsConnectionWasLost(t *testing.T) {
	dsn := server.Database(t)
	one, other := open(t, dsn), open(t, dsn)
	told := make(chan edge.Position, 100)
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		one.Watch(ctx, func() {
			if at, err := one.Position(ctx); err == nil {
				told <- at
			}
		})
	})
	defer watching.Wait()
	defer stop()
	// Beginning to watch and to listen tells twice, a connection that was lost once more.
	for round := range 6 {
		at, err := other.AcceptEpoch(ledger.Who{By: "ada"})
		if err != nil {
			t.Fatal(err)
		}
		for got := range told {
			if got == at {
				break
			}
		}
		if round == 4 {
			if err := alter(dsn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()`); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestADatabaseOfANewerProgramIsRefusedAndLeftAsItIs(t *testing.T) {
	dsn := server.Database(t)
	open(t, dsn).Close()
	if err := alter(dsn, `UPDATE meta SET value = '99' WHERE name = 'schema'`); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := postgres.Open(t.Context(), dsn); err == nil || !strings.Contains(err.Error(), "schema 99") {
			t.Errorf("Open = %v, want a word about schema 99", err)
		}
	}
}

func TestADatabaseThatIsNotThereIsAnErrorThatSaysSo(t *testing.T) {
	dsn := strings.Replace(server.Database(t), "/hub", "/no-hub", 1)
	if _, err := postgres.Open(t.Context(), dsn); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("Open = %v, want that it does not exist", err)
	}
}

func BenchmarkTenThousandDials(b *testing.B) {
	dsn := server.Database(b)
	ledgertest.BenchmarkDials(b, func() (*ledger.Ledger, error) { return postgres.Open(b.Context(), dsn) })
}
