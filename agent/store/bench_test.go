package store_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/functions"
)

// stateful is what an event leaves that counted in its function's state: one
// key, and the identity of its packet.
func stateful(n int64) *store.Change {
	return &store.Change{
		State: &store.StateChange{Function: "count", Quota: 1 << 20, Writes: []functions.StateWrite{
			{Op: functions.StateIncr, Key: fmt.Sprint("device ", n%20), By: 1},
		}},
		Done: []store.Done{{Function: "count", Identity: store.Identity{Session: "abcdefghijkl", PacketID: uint16(n), Digest: uint64(n)}}},
	}
}

func BenchmarkOneAfterAnother(b *testing.B) {
	s, _ := open(b, b.TempDir())
	before := written(b)
	for n := int64(0); b.Loop(); n++ {
		mustCommit(b, s, *stateful(n))
	}
	report(b, before)
}

func Benchmark64AtATime(b *testing.B) {
	s, _ := open(b, b.TempDir())
	before := written(b)
	var n atomic.Int64
	b.SetParallelism(32) // times GOMAXPROCS
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := commit(s, *stateful(n.Add(1))); err != nil {
				b.Error(err)
			}
		}
	})
	report(b, before)
}

func BenchmarkGetFromMemory(b *testing.B) {
	s, _ := open(b, b.TempDir())
	mustCommit(b, s, *stateful(0))
	b.ReportAllocs()
	for b.Loop() {
		if v, _, err := s.Get("count", "device 0"); err != nil || v == nil {
			b.Fatal(v, err)
		}
	}
}

func report(b *testing.B, before int64) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64(written(b)-before)/float64(b.N), "written-B/op")
}
