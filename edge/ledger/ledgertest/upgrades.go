package ledgertest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

var upgrades = map[string]func(*testing.T, Place){
	"A release is kept whole, once, and read in pieces": testRelease,
	"A release goes, but not while an upgrade needs it": testRemoveRelease,
	"A release that breaks off leaves nothing":          testBrokenRelease,
	"One upgrade is under way at a time":                testOneUpgrade,
	"Who knows the versions reads them only if changed": testVersionsChange,
}

// release returns a program of so many bytes, and the release that it is.
func release(version, platform string, size int) ([]byte, edge.Release) {
	program := bytes.Repeat([]byte(version+" "+platform+" "), size)[:size]
	return program, edge.Release{Version: version, Platform: platform, Digest: "digest of " + version + platform, Size: int64(size), Signature: "signed"}
}

func put(t *testing.T, l *ledger.Ledger, version, platform string, size int) (program []byte, r edge.Release) {
	t.Helper()
	program, r = release(version, platform, size)
	if err := l.PutRelease(ada, r, bytes.NewReader(program)); err != nil {
		t.Fatal(err)
	}
	return program, r
}

// read returns a program from offset on.
func read(l *ledger.Ledger, t *testing.T, digest string, offset int64) (program []byte) {
	t.Helper()
	for {
		piece, err := l.ReleaseChunk(t.Context(), digest, offset)
		if errors.Is(err, ledger.ErrNotFound) {
			return program
		}
		if err != nil {
			t.Fatal(err)
		}
		if end := offset + int64(len(piece)); len(piece) > edge.ChunkSize || offset/edge.ChunkSize != (end-1)/edge.ChunkSize {
			t.Errorf("a piece of %d bytes at %d", len(piece), offset)
		}
		program, offset = append(program, piece...), offset+int64(len(piece))
	}
}

func versions(t *testing.T, l *ledger.Ledger) ledger.Versions {
	t.Helper()
	v, _, err := l.Versions(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func testRelease(t *testing.T, p Place) {
	l := p.open(t)
	for _, size := range []int{1, edge.ChunkSize, edge.ChunkSize + 1, 3*edge.ChunkSize + 7} {
		program, r := put(t, l, fmt.Sprintf("v1.0.%d", size), "linux/arm64", size)
		for _, from := range []int64{0, 1, edge.ChunkSize - 1, edge.ChunkSize, r.Size - 1, r.Size} {
			if from > r.Size {
				continue
			}
			if got := read(l, t, r.Digest, from); !bytes.Equal(got, program[from:]) {
				t.Errorf("of %d bytes from %d on %d are read, or others", size, from, len(got))
			}
		}
	}
	program, r := put(t, l, "v2.0.0", "linux/arm64", 10)
	if err := l.PutRelease(ada, r, bytes.NewReader(nil)); err != nil {
		t.Errorf("what is there already = %v", err)
	}
	other := r
	other.Digest = "another"
	if err := l.PutRelease(ada, other, bytes.NewReader(program)); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("another one of that version = %v, want a conflict", err)
	}
	for _, at := range []int64{-1, -edge.ChunkSize, 1 << 62} {
		if _, err := l.ReleaseChunk(t.Context(), r.Digest, at); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("a piece at %d = %v, want that there is none", at, err)
		}
	}
	if v := versions(t, l); len(v.Releases) != 5 || v.Releases[4] != r {
		t.Errorf("releases are %+v", v.Releases)
	}
}

func testRemoveRelease(t *testing.T, p Place) {
	l := p.open(t)
	_, r := put(t, l, "v2.0.0", "linux/arm64", 10)
	if err := l.RemoveRelease(ada, "v2.0.0", "linux/amd64"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("of a platform that there is not = %v", err)
	}
	u := begin(t, l, "v2.0.0")
	if err := l.RemoveRelease(ada, "v2.0.0", "linux/arm64"); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("while an upgrade leads to it = %v, want a conflict", err)
	}
	end(t, l, u.ID, edge.Completed)
	if err := l.RemoveRelease(ada, "v2.0.0", "linux/arm64"); err != nil {
		t.Fatal(err)
	}
	if got := read(l, t, r.Digest, 0); len(got) > 0 || len(versions(t, l).Releases) > 0 {
		t.Errorf("%d bytes are left, and %+v", len(got), versions(t, l).Releases)
	}
	put(t, l, "v2.0.0", "linux/arm64", 10) // and may come again
}

func testBrokenRelease(t *testing.T, p Place) {
	l := p.open(t)
	program, r := release("v2.0.0", "linux/arm64", 2*edge.ChunkSize)
	if err := l.PutRelease(ada, r, bytes.NewReader(program[:len(program)-1])); err == nil {
		t.Fatal("a release is kept that was cut")
	}
	if got := read(l, t, r.Digest, 0); len(got) > 0 || len(versions(t, l).Releases) > 0 {
		t.Errorf("%d bytes are left of it", len(got))
	}
}

func begin(t *testing.T, l *ledger.Ledger, version string) edge.UpgradeRollout {
	t.Helper()
	u, err := l.BeginUpgrade(ada, edge.UpgradeRollout{Rollout: edge.Rollout{To: functions.Revision(version), Stages: []edge.Stage{{Percent: 100}}}, Downgrade: true})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func end(t *testing.T, l *ledger.Ledger, id int64, state edge.RolloutState) {
	t.Helper()
	_, err := l.SteerUpgrade(id, ada, func(r edge.Rollout) (edge.Rollout, bool) {
		r.State, r.To = state, "something else"
		return r, true
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testOneUpgrade(t *testing.T, p Place) {
	l := p.open(t)
	put(t, l, "v2.0.0", "linux/arm64", 10)
	u := begin(t, l, "v2.0.0")
	if u.ID != 1 || u.By != "ada" || u.Begun.IsZero() || u.State != edge.Rolling {
		t.Errorf("it begins as %+v", u)
	}
	if _, err := l.BeginUpgrade(ada, edge.UpgradeRollout{}); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("a second one = %v, want a conflict", err)
	}
	end(t, l, u.ID, edge.RolledBack)
	never := func(edge.Rollout) (edge.Rollout, bool) {
		t.Error("what is over is steered")
		return edge.Rollout{}, false
	}
	if _, err := l.SteerUpgrade(u.ID, ada, never); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("steer what is over = %v", err)
	}
	if _, err := l.SteerUpgrade(99, ada, never); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("steer what is not there = %v", err)
	}
	for range 30 {
		end(t, l, begin(t, l, "v2.0.0").ID, edge.Completed)
	}
	list := versions(t, l).Upgrades
	if len(list) != 20 || list[0].ID != 31 || list[0].To != "v2.0.0" || !list[0].Downgrade || list[0].Ended.IsZero() {
		t.Errorf("%d upgrades are kept, the newest %+v; want 20, of number 31", len(list), list[0])
	}
	if err := l.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
}

func testVersionsChange(t *testing.T, p Place) {
	l := p.open(t)
	known := versions(t, l)
	changed := func(what string, want bool) {
		t.Helper()
		v, got, err := l.Versions(t.Context(), known.Mark)
		if err != nil || got != want {
			t.Errorf("after %s it has changed: %v (%v), want %v", what, got, err, want)
		}
		known.Mark = v.Mark
	}
	changed("nothing", false)
	put(t, l, "v2.0.0", "linux/arm64", 10)
	changed("a release", true)
	u := begin(t, l, "v2.0.0")
	changed("an upgrade", true)
	deploy(t, l, "lamp", "1")
	changed("a deploy", false)
	end(t, l, u.ID, edge.Completed)
	changed("the end of it", true)
	if err := l.RemoveRelease(ada, "v2.0.0", "linux/arm64"); err != nil {
		t.Fatal(err)
	}
	changed("the end of the release", true)
}
