package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

func set(key, value string) functions.StateWrite {
	return functions.StateWrite{Op: functions.StateSet, Key: key, Value: []byte(value)}
}

func incr(key string, by float64) functions.StateWrite {
	return functions.StateWrite{Op: functions.StateIncr, Key: key, By: by}
}

func del(key string) functions.StateWrite {
	return functions.StateWrite{Op: functions.StateDelete, Key: key}
}

// write changes the state of function f.
func write(t testing.TB, s *store.Store, writes ...functions.StateWrite) error {
	t.Helper()
	return s.Write(t.Context(), store.StateChange{Function: "f", Writes: writes})
}

func mustWrite(t testing.TB, s *store.Store, writes ...functions.StateWrite) {
	t.Helper()
	if err := write(t, s, writes...); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s *store.Store, key string) (value string, version int64) {
	t.Helper()
	v, version, err := s.Get("f", key)
	if err != nil {
		t.Fatal(err)
	}
	return string(v), version
}

func TestAConflictVoidsOnlyItsOwnChange(t *testing.T) {
	s, _ := open(t, t.TempDir())
	mustWrite(t, s, set("k", "1"))
	_, version := get(t, s, "k")
	rewrite := func(value string) *store.Change {
		return &store.Change{
			State:  &store.StateChange{Function: "f", Reads: map[string]int64{"k": version}, Writes: []functions.StateWrite{set("k", value)}},
			Outbox: []store.Outgoing{{Seq: version}},
		}
	}
	errs := make(chan error, 3)
	other := &store.Change{State: &store.StateChange{Function: "f", Writes: []functions.StateWrite{set("other", "4")}}}
	for _, c := range []*store.Change{rewrite("2"), rewrite("3"), other} {
		s.Commit(c, func(err error) { errs <- err })
	}
	for i, want := range []error{nil, store.ErrConflict, nil} {
		if got := <-errs; !errors.Is(got, want) {
			t.Errorf("change %d: %v, want %v", i, got, want)
		}
	}
	for key, want := range map[string]string{"k": "2", "other": "4"} {
		if got, _ := get(t, s, key); got != want {
			t.Errorf("Get(%s) = %s, want %s", key, got, want)
		}
	}
}

func TestAMissingKeyCanBeReadAndTheReadingChecked(t *testing.T) {
	s, _ := open(t, t.TempDir())
	claim := func(function string) error {
		return s.Write(t.Context(), store.StateChange{
			Function: "f", Reads: map[string]int64{"leader": 0}, Writes: []functions.StateWrite{set("leader", strconv.Quote(function))},
		})
	}
	if err := claim("a"); err != nil {
		t.Errorf("first: %v", err)
	}
	if err := claim("b"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("second: %v, want %v", err, store.ErrConflict)
	}
}

func TestNoVersionComesTwice(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	last := int64(0)
	for round := range 3 {
		for range 3 {
			mustWrite(t, s, set("k", "1"))
			_, version := get(t, s, "k")
			if version <= last {
				t.Errorf("version %d after %d", version, last)
			}
			last = version
			mustWrite(t, s, del("k"))
			if value, version := get(t, s, "k"); value != "" || version != 0 {
				t.Errorf("a deleted key is %q, %d", value, version)
			}
		}
		closeStore()
		s, closeStore = open(t, dir)
		if round == 0 {
			mustWrite(t, s, del("k"))
		}
	}
}

func TestIncrAddsToWhateverIsThere(t *testing.T) {
	s, _ := open(t, t.TempDir())
	steps := []struct {
		write functions.StateWrite
		want  string
		err   error
	}{
		{incr("n", 2), "2", nil},
		{incr("n", -0.5), "1.5", nil},
		{set("n", "9007199254740991"), "9007199254740991", nil},
		{incr("n", -1), "9007199254740990", nil},
		{set("n", "1e308"), "1e308", nil},
		{incr("n", 1e308), "1e308", store.ErrNumber},
		{set("n", `"text"`), `"text"`, nil},
		{incr("n", 1), `"text"`, store.ErrNumber},
		{set("n", "null"), "null", nil},
		{incr("n", 1), "null", store.ErrNumber},
	}
	for i, step := range steps {
		if err := write(t, s, step.write); !errors.Is(err, step.err) {
			t.Errorf("step %d: %v, want %v", i, err, step.err)
		}
		if got, _ := get(t, s, "n"); got != step.want {
			t.Errorf("step %d: n is %s, want %s", i, got, step.want)
		}
	}
	mustWrite(t, s, set("n", "1"), incr("n", 1), incr("n", 1), del("m"), incr("m", 5))
	for key, want := range map[string]string{"n": "3", "m": "5"} {
		if got, _ := get(t, s, key); got != want {
			t.Errorf("%s is %s, want %s: writes of a change see those before them", key, got, want)
		}
	}
}

func TestAStateChangeThatIsRefusedWritesNothing(t *testing.T) {
	s, _ := open(t, t.TempDir())
	mustWrite(t, s, set("k", "1"))
	long := strings.Repeat("x", functions.MaxStateKey+1)
	for name, tt := range map[string]struct {
		bad  functions.StateWrite
		want error
	}{
		"empty key":       {set("", "1"), store.ErrKey},
		"long key":        {set(long, "1"), store.ErrKey},
		"long key, incr":  {incr(long, 1), store.ErrKey},
		"key not UTF-8":   {set("\xff", "1"), store.ErrKey},
		"key with NUL":    {set("a\x00b", "1"), store.ErrKey},
		"large value":     {set("v", `"`+strings.Repeat("x", functions.MaxStateValue-1)+`"`), store.ErrValue},
		"not JSON":        {set("v", "{"), store.ErrValue},
		"no value":        {set("v", ""), store.ErrValue},
		"unknown op":      {functions.StateWrite{Op: 9, Key: "v", Value: []byte("1")}, store.ErrValue},
		"over the quota":  {set("v", `"`+strings.Repeat("x", 500)+`"`), store.ErrQuota},
		"deleted, re-set": {set("k", `"`+strings.Repeat("x", 500)+`"`), store.ErrQuota},
	} {
		usage := s.Usage("f")
		err := commit(s, store.Change{
			State: &store.StateChange{Function: "f", Quota: 400, Writes: []functions.StateWrite{set("k", "2"), set("new", "3"), tt.bad}},
			Store: []store.Delivery{{Seq: 1}},
		})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if got, _ := get(t, s, "k"); got != "1" {
			t.Errorf("%s: k is %s, want 1", name, got)
		}
		if got := s.Usage("f"); got != usage {
			t.Errorf("%s: usage is %+v, want %+v", name, got, usage)
		}
	}
	if r, err := s.Recover(); err != nil || len(r.Inbox) > 0 {
		t.Errorf("%d rows in the inbox, %v; want none", len(r.Inbox), err)
	}
	mustWrite(t, s, set("largest", `"`+strings.Repeat("x", functions.MaxStateValue-2)+`"`), set(long[1:], "1"))
}

func TestTheQuotaCountsKeysAndValues(t *testing.T) {
	s, closeStore := open(t, t.TempDir())
	quota := func(quota int64, writes ...functions.StateWrite) error {
		return s.Write(t.Context(), store.StateChange{Function: "f", Quota: quota, Writes: writes})
	}
	if err := quota(10, set("äb", "1234567")); err != nil { // 3 + 7
		t.Errorf("what just fits: %v", err)
	}
	if err := quota(10, set("äb", "12345678")); !errors.Is(err, store.ErrQuota) {
		t.Errorf("one more byte: %v, want %v", err, store.ErrQuota)
	}
	if err := quota(5, set("äb", "123")); err != nil {
		t.Errorf("a smaller value under a lowered quota: %v", err)
	}
	if err := quota(5, del("äb"), set("c", "1234")); err != nil {
		t.Errorf("in exchange for another: %v", err)
	}
	if got, want := s.Usage("f"), (store.Usage{Keys: 1, Bytes: 5}); got != want {
		t.Errorf("Usage = %+v, want %+v", got, want)
	}
	if got := s.Usage("g"); got != (store.Usage{}) {
		t.Errorf("a neighbour uses %+v, want nothing", got)
	}
	closeStore()
}

func TestUsageIsTheSameAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	mustWrite(t, s, set("äb", `"ü"`), set("c", "1"), del("c"), incr("d", 10))
	want := s.Usage("f")
	closeStore()
	s, _ = open(t, dir)
	if got := s.Usage("f"); got != want || got.Bytes != 3+4+1+2 {
		t.Errorf("Usage = %+v, want %+v", got, want)
	}
}

func TestStateExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, closeStore := open(t, t.TempDir())
		defer closeStore()
		ttl := func(w functions.StateWrite, d time.Duration) functions.StateWrite {
			w.TTL = d
			return w
		}
		mustWrite(t, s, ttl(set("short", "1"), time.Minute), set("ever", "2"), ttl(incr("n", 5), time.Minute))
		_, short := get(t, s, "short")
		time.Sleep(time.Minute - time.Second)
		mustWrite(t, s, incr("n", 1)) // leaves its time as it is
		if got, _ := get(t, s, "n"); got != "6" {
			t.Errorf("n is %s, want 6", got)
		}
		time.Sleep(time.Second)
		for key, want := range map[string]string{"short": "", "n": "", "ever": "2"} {
			if got, _ := get(t, s, key); got != want {
				t.Errorf("after a minute %s is %q, want %q", key, got, want)
			}
		}
		if list, err := s.List("f", "", 10, ""); err != nil || len(list) != 1 {
			t.Errorf("List = %+v, %v, want one key", list, err)
		}
		stale := store.StateChange{Function: "f", Reads: map[string]int64{"short": short}}
		if err := s.Write(t.Context(), stale); !errors.Is(err, store.ErrConflict) {
			t.Errorf("a change that has read what expired: %v, want %v", err, store.ErrConflict)
		}
		mustWrite(t, s, incr("n", 1))
		if got, _ := get(t, s, "n"); got != "1" {
			t.Errorf("n begins anew with %s, want 1", got)
		}
		time.Sleep(time.Hour)
		mustWrite(t, s, set("other", "1")) // sweeps
		if got, want := s.Usage("f"), (store.Usage{Keys: 3, Bytes: 4 + 1 + 1 + 1 + 5 + 1}); got != want {
			t.Errorf("Usage = %+v after sweeping, want %+v", got, want)
		}
	})
}

func TestWhatHasExpiredMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, closeStore := open(t, t.TempDir())
		defer closeStore()
		fill := func() error {
			var writes []functions.StateWrite
			for n := range 10 {
				w := set(fmt.Sprint("k", n, time.Now().Unix()), "1")
				w.TTL = time.Second
				writes = append(writes, w)
			}
			return s.Write(t.Context(), store.StateChange{Function: "f", Quota: 150, Writes: writes})
		}
		for round := range 5 {
			if err := fill(); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
			time.Sleep(2 * time.Second)
		}
	})
}

func TestListGoesThroughKeysInOrder(t *testing.T) {
	s, _ := open(t, t.TempDir())
	mustWrite(t, s, set("a", "0"), set("lamp/1", "1"), set("lamp/2", "2"), set("lamp/ä", "3"), set("lamp0", "4"), set("lamp%", "5"))
	if err := s.Write(t.Context(), store.StateChange{Function: "g", Writes: []functions.StateWrite{set("lamp/9", "9")}}); err != nil {
		t.Fatal(err)
	}
	keys := func(list []edge.StateEntry, err error) (keys []string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			keys = append(keys, e.Key)
		}
		return keys
	}
	for _, tt := range []struct {
		prefix string
		limit  int
		after  string
		want   []string
	}{
		{"lamp/", 10, "", []string{"lamp/1", "lamp/2", "lamp/ä"}},
		{"lamp/", 2, "", []string{"lamp/1", "lamp/2"}},
		{"lamp/", 2, "lamp/2", []string{"lamp/ä"}},
		{"", 2, "lamp0", nil},
		{"", 2, "lamp/2", []string{"lamp/ä", "lamp0"}},
		{"x", 2, "", nil},
	} {
		if got := keys(s.List("f", tt.prefix, tt.limit, tt.after)); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("List(%q, %d, %q) = %q, want %q", tt.prefix, tt.limit, tt.after, got, tt.want)
		}
	}
}

func TestPurgeTakesOneFunctionsState(t *testing.T) {
	s, _ := open(t, t.TempDir())
	for _, f := range []string{"f", "g"} {
		if err := s.Write(t.Context(), store.StateChange{Function: f, Writes: []functions.StateWrite{set("k", "1")}}); err != nil {
			t.Fatal(err)
		}
	}
	_, version := get(t, s, "k")
	if err := s.Purge("f"); err != nil {
		t.Fatal(err)
	}
	if got, v := get(t, s, "k"); got != "" || v != 0 {
		t.Errorf("k is %q, %d after the purge of %d", got, v, version)
	}
	if got := s.Usage("f"); got != (store.Usage{}) {
		t.Errorf("Usage = %+v, want nothing", got)
	}
	if got, _, _ := s.Get("g", "k"); string(got) != "1" {
		t.Errorf("the neighbour's k is %q, want 1", got)
	}
}

// More state than the cache holds is read from the file, right after a restart
// as later.
func TestTheCacheIsBoundedAndRight(t *testing.T) {
	s, _ := open(t, t.TempDir())
	value := func(n int) string { return strconv.Quote(strings.Repeat(string(rune('a'+n%26)), 60_000)) }
	const keys = 100 // 6 MB
	for n := range keys {
		mustWrite(t, s, set(fmt.Sprint(n), value(n)))
	}
	for n := range keys {
		if got, _ := get(t, s, fmt.Sprint(n)); got != value(n) {
			t.Fatalf("key %d is wrong", n)
		}
	}
}

func TestAWriteThatNobodyWaitsForAnyMoreEndsItsCall(t *testing.T) {
	s, _ := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	blocked, release := make(chan struct{}), make(chan struct{})
	s.Commit(&store.Change{}, func(error) { close(blocked); <-release })
	<-blocked
	cancel()
	err := s.Write(ctx, store.StateChange{Function: "f", Writes: []functions.StateWrite{set("k", "1")}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Write = %v, want %v", err, context.Canceled)
	}
	close(release)
}
