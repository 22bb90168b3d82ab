package upgrade_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/installer/upgrade"
)

// A ware is a kind of version that may be offered.
type ware struct {
	name  string
	build build
	spoil func(program []byte) []byte
	works bool
}

var wares = []ware{
	{"good", build{"v1.1.0", "good"}, whole, true},
	{"also good", build{"v1.2.0", "good"}, whole, true},
	{"crashes", build{"v1.3.0", "crash"}, whole, false},
	{"hangs", build{"v1.3.0", "hang"}, whole, false},
	{"says that it is unhealthy", build{"v1.3.0", "unhealthy"}, whole, false},
	{"of another kind of machine", build{"v1.1.0", "good"}, foreign, false},
	{"truncated before it was signed", build{"v1.1.0", "good"}, func(p []byte) []byte { return p[:len(p)/2] }, false},
}

func whole(program []byte) []byte { return program }

// foreign makes an ELF file one for a machine that there is not.
func foreign(program []byte) []byte {
	program[18], program[19] = 0xff, 0xff
	return program
}

// make makes a version that there was not yet: what stands behind an ELF file is ignored.
func (w ware) make(t *testing.T, n int) []byte {
	t.Helper()
	program, err := os.ReadFile(built(t, w.build))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(w.spoil(program), "the %dth", n)
}

func chance(t *testing.T) *rand.Rand {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// TestChaosAKilledUpgradeNeverLeavesNothingThatWorks kills a program, anywhere between
// hearing of a version, taking, selecting, starting and confirming it. Whatever is
// started then must lead to a version that works, and one that does not is left
// after its boots are used up; when the same version is offered once more, a good one
// must come to run.
func TestChaosAKilledUpgradeNeverLeavesNothingThatWorks(t *testing.T) {
	skipEmulated(t)
	random := chance(t)
	v := newVendor(t)
	m := newMachine(t, v)
	before := build{"v1.0.0", "good"}
	killed := map[string]int{} // after which word
	for n := range *cycles {
		w := wares[random.IntN(len(wares))]
		offer, slot := v.release(t, w.build.version, w.make(t, n))
		var y tally

		p := m.start(t, offer)
		last := y.hearSome(p, random.IntN(9))
		time.Sleep(time.Duration(random.Int64N(int64(10 * time.Millisecond)))) // the instant is what is random
		p.kill()
		killed[last]++
		rotten := random.IntN(4) == 0 && rot(t, m.file(slot), random)

		m.revive(t, "", &y).leave(t)
		if got := (build{y.healthy.version, y.healthy.behaviour}); got != before && (!w.works || got != w.build) {
			t.Fatalf("%d, %s: %v is healthy, want %v or, if it works, %v: %q", n, w.name, got, before, w.build, y.said)
		}
		m.revive(t, offer, &y).leave(t)
		want := before
		if w.works && !rotten {
			want = w.build
		}
		if got := (build{y.healthy.version, y.healthy.behaviour}); got != want && !(rotten && got == w.build) {
			t.Fatalf("%d, %s: %v is healthy after the second offer, want %v: %q", n, w.name, got, want, y.said)
		}
		if y.boots > upgrade.MaxBoots {
			t.Fatalf("%d, %s: started %d times, want at most %d: %q", n, w.name, y.boots, upgrade.MaxBoots, y.said)
		}
		before = build{y.healthy.version, y.healthy.behaviour}
	}
	t.Logf("killed after the word: %v", killed)
}

// hearSome hears n words at most, and returns the last.
func (y *tally) hearSome(p *process, n int) string {
	last := word{what: "nothing"}
	for range n {
		w, ok := p.next()
		if !ok {
			return last.what + ", by itself"
		}
		last = w
		y.said = append(y.said, w.what+" "+w.version)
		if w.what == "boot" && w.behaviour != "good" {
			y.boots++
		}
		if w.what == "healthy" || w.what == "boot" && w.behaviour == "hang" {
			break // nothing more is to come
		}
	}
	return last.what
}

// rot damages the file, if it is there, as a card does that loses its memory.
func rot(t *testing.T, path string, random *rand.Rand) bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	switch random.IntN(3) {
	case 0:
		err = os.Remove(path)
	case 1:
		err = os.WriteFile(path, text[:random.IntN(len(text))], 0o755)
	default:
		text = bytes.Clone(text)
		text[random.IntN(len(text))] ^= 1
		err = os.WriteFile(path, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return true
}
