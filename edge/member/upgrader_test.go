package member_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/member"
)

// A shelf keeps versions in memory.
type shelf struct {
	mu      sync.Mutex
	against string            // why nothing is taken; guarded by mu, as is all below
	parts   map[string][]byte // what has come, by digest
	taken   []string          // digests of what was finished
	left    []string
	damaged bool // what comes is not what was offered
}

func newShelf() *shelf { return &shelf{parts: map[string][]byte{}} }

func (s *shelf) Offer(u edge.Upgrade) (member.Arrival, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.against != "" {
		return nil, errors.New(s.against)
	}
	return &parcel{s, u.Digest}, nil
}

func (s *shelf) Leave(digest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = append(s.left, digest)
	return nil
}

func (s *shelf) Report() edge.UpgradeReport {
	return edge.UpgradeReport{Version: "v1.0.0", Platform: "linux/arm64"}
}

// holds returns what has come whole.
func (s *shelf) holds() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

func (s *shelf) refuse(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.against = why
}

// A parcel is a version that comes to a shelf.
type parcel struct {
	shelf  *shelf
	digest string
}

func (p *parcel) Offset() int64 {
	p.shelf.mu.Lock()
	defer p.shelf.mu.Unlock()
	return int64(len(p.shelf.parts[p.digest]))
}

func (p *parcel) Write(offset int64, piece []byte) error {
	p.shelf.mu.Lock()
	defer p.shelf.mu.Unlock()
	if offset != int64(len(p.shelf.parts[p.digest])) {
		return fmt.Errorf("a piece at %d", offset)
	}
	p.shelf.parts[p.digest] = append(p.shelf.parts[p.digest], piece...)
	return nil
}

func (p *parcel) Finish() error {
	p.shelf.mu.Lock()
	defer p.shelf.mu.Unlock()
	if p.shelf.damaged {
		p.shelf.parts[p.digest] = nil
		return errors.New("it has another digest")
	}
	p.shelf.taken = append(p.shelf.taken, p.digest)
	return nil
}

func (p *parcel) Close() error { return nil }

// release returns a program of so many bytes, and what a hub says of it.
func release(size int) ([]byte, *edge.Upgrade) {
	program := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
	return program, &edge.Upgrade{Order: 7, Release: edge.Release{Version: "v2.0.0", Platform: "linux/arm64", Digest: "d2", Size: int64(size)}}
}

// refusals returns what was told of versions that are not taken, each once.
func refusals(h *hub) (list []edge.UpgradeRefusal) {
	for _, r := range get(h, &h.reports) {
		if r.Upgrade != nil && r.Upgrade.Refused != nil {
			list = append(list, *r.Upgrade.Refused)
		}
	}
	return slices.Compact(list)
}

func TestAVersionComesInPiecesAndGoesOnAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHub(t), newShelf()
		program, u := release(40*edge.ChunkSize + 7)
		h.programs = map[string][]byte{"d2": program}
		n := startNode(t, h, func(c *member.Config) { c.Upgrades = s })
		h.programCut = 11 * edge.ChunkSize
		h.says(u)
		pass(3 * time.Second)
		if got := s.holds(); len(got) > 0 {
			t.Fatalf("%q came over a link that broke", got)
		}
		s.mu.Lock()
		s.parts["d2"] = s.parts["d2"][:len(s.parts["d2"])-100] // the disk has lost some
		has := len(s.parts["d2"])
		s.mu.Unlock()
		pass(2 * time.Minute) // until it has dialled again
		before := len(get(h, &h.pieces))
		h.says(u)
		pass(3 * time.Second)
		if !slices.Equal(s.holds(), []string{"d2"}) || !bytes.Equal(s.parts["d2"], program) {
			t.Errorf("%q was taken, and %d bytes have come, want all %d once", s.holds(), len(s.parts["d2"]), len(program))
		}
		if got, want := len(get(h, &h.pieces))-before, (len(program)-1)/edge.ChunkSize+1-has/edge.ChunkSize; got != want {
			t.Errorf("after the cut %d pieces were asked for, want the %d that were missing", got, want)
		}
		n.wantRuns()
	})
}

func TestAPieceThatIsLostIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHub(t), newShelf()
		program, u := release(20 * edge.ChunkSize)
		h.programs, h.programLost = map[string][]byte{"d2": program}, 5*edge.ChunkSize
		startNode(t, h, func(c *member.Config) { c.Upgrades = s })
		h.says(u)
		pass(3 * edge.BeatTime)
		if !slices.Equal(s.holds(), []string{"d2"}) {
			t.Error("it never came")
		}
	})
}

func TestWhatIsNotTakenIsToldAndLookedAtAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHub(t), newShelf()
		program, u := release(10)
		h.programs = map[string][]byte{"d2": program}
		s.refuse("the disk is full")
		startNode(t, h, func(c *member.Config) { c.Upgrades = s })
		h.says(u)
		pass(3 * time.Minute)
		want := edge.UpgradeRefusal{Order: 7, Version: "v2.0.0", Why: "the disk is full"}
		if got := refusals(h); len(got) != 1 || got[0] != want {
			t.Errorf("told %+v, want once %+v", got, want)
		}
		s.refuse("")
		pass(edge.BeatTime + 3*time.Second)
		if !slices.Equal(s.holds(), []string{"d2"}) {
			t.Error("it is not taken though there is room now")
		}
		reports := get(h, &h.reports)
		if last := reports[len(reports)-1]; last.Upgrade != nil && last.Upgrade.Refused != nil {
			t.Errorf("it still says %+v", last.Upgrade.Refused)
		}
	})
}

func TestAVersionWaitsUntilTheOwnerLetsItIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHub(t), newShelf()
		program, u := release(10)
		h.programs = map[string][]byte{"d2": program}
		home := joined(t, h)
		hold := filepath.Join(home, "held")
		if err := os.WriteFile(hold, []byte("it is winter"), 0o600); err != nil {
			t.Fatal(err)
		}
		runNode(t, h, t.TempDir(), home, func(c *member.Config) { c.Upgrades = s })
		h.says(u)
		pass(time.Minute)
		if got := refusals(h); len(got) != 1 || !got[0].Held || !strings.Contains(got[0].Why, "winter") || len(s.holds()) > 0 {
			t.Errorf("told %+v, and %q was taken; want that the owner holds it", got, s.holds())
		}
		if err := os.Remove(hold); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if !slices.Equal(s.holds(), []string{"d2"}) {
			t.Error("it is not taken though the owner lets it in")
		}
	})
}

func TestAVersionThatComesWaitsOnceTheOwnerHoldsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHub(t), newShelf()
		program, u := release(20 * edge.ChunkSize)
		h.programs, h.programLost = map[string][]byte{"d2": program}, 5*edge.ChunkSize
		home := joined(t, h)
		runNode(t, h, t.TempDir(), home, func(c *member.Config) { c.Upgrades = s })
		h.says(u)
		pass(3 * time.Second) // what follows the piece that was lost has not been asked for again
		hold := filepath.Join(home, "held")
		if err := os.WriteFile(hold, []byte("it is winter"), 0o600); err != nil {
			t.Fatal(err)
		}
		pass(3 * edge.BeatTime)
		has := len(s.parts["d2"])
		if got := refusals(h); len(got) != 1 || !got[0].Held || len(s.holds()) > 0 {
			t.Errorf("told %+v, and %q was taken; want that the owner holds it", got, s.holds())
		}
		if err := os.Remove(hold); err != nil {
			t.Fatal(err)
		}
		before := len(get(h, &h.pieces))
		pass(3 * edge.BeatTime)
		if !slices.Equal(s.holds(), []string{"d2"}) {
			t.Error("it is not taken though the owner lets it in")
		}
		if got, want := len(get(h, &h.pieces))-before, 20-has/edge.ChunkSize; has == 0 || got != want {
			t.Errorf("%d pieces were asked for after %d bytes had come, want %d", got, has, want)
		}
	})
}

func TestWhatIsDamagedOrGoneIsNotFetchedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		damaged bool
		there   bool
		why     string
	}{
		"damaged": {true, true, "it has another digest"},
		"gone":    {false, false, "the hub does not have it any more"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, s := newHub(t), newShelf()
				program, u := release(10)
				if c.there {
					h.programs = map[string][]byte{"d2": program}
				}
				s.damaged = c.damaged
				startNode(t, h, func(c *member.Config) { c.Upgrades = s })
				h.says(u)
				pass(3 * time.Second)
				asked := len(get(h, &h.pieces))
				pass(5 * time.Minute)
				if got := refusals(h); len(got) != 1 || !strings.Contains(got[0].Why, c.why) {
					t.Errorf("told %+v, want %q", got, c.why)
				}
				if got := len(get(h, &h.pieces)); asked == 0 || got != asked {
					t.Errorf("%d pieces were asked for, %d of them later", got, got-asked)
				}
			})
		})
	}
}

func TestAVersionThatIsTakenBackComesNoFurther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHub(t), newShelf()
		_, u := release(20 * edge.ChunkSize)
		s.refuse("the disk is full")
		startNode(t, h, func(c *member.Config) { c.Upgrades = s })
		h.says(u)
		pass(3 * time.Second)
		back := *u
		back.Leave = true
		h.says(&back)
		pass(time.Second)
		s.refuse("")
		pass(5 * time.Minute)
		if len(s.holds()) > 0 || len(get(h, &h.pieces)) > 0 {
			t.Errorf("%d pieces were fetched of what was taken back", len(get(h, &h.pieces)))
		}
		if !slices.Equal(s.left, []string{"d2"}) {
			t.Errorf("left %q, want d2", s.left)
		}
	})
}

func TestANodeWithoutVersionsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		n := startNode(t, h)
		_, u := release(10)
		h.says(u)
		pass(time.Minute)
		if !n.Status().Connected || len(get(h, &h.pieces)) > 0 {
			t.Errorf("status %+v, %d pieces; want it to pass the version over", n.Status(), len(get(h, &h.pieces)))
		}
	})
}
