package postgres_test

import (
	"fmt"
	"os"
	"testing"

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
	return func() (*ledger.Ledger, error) { return postgres.Open(t.Context(), dsn) }
}

func TestALedgerInPostgreSQLPassesTheSuite(t *testing.T) { ledgertest.Run(t, place) }
