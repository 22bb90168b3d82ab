package ledger_test

import (
	"testing"

	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/ledger/ledgertest"
)

func BenchmarkTenThousandDials(b *testing.B) {
	dir := b.TempDir()
	ledgertest.BenchmarkDials(b, func() (*ledger.Ledger, error) { return ledger.Open(dir) })
}
