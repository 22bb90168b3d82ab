package member_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/member"
)

// invite returns an invitation of the hub.
func (h *hub) invite() edge.Invitation {
	return edge.Invitation{Token: "0123456789abcdef", Secret: []byte("sixteen of these"), HubKey: h.key.Public().(ed25519.PublicKey)}
}

func (h *hub) decide(v edge.Verdict) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.verdict = v
}

func TestANodeJoinsOnceAnOperatorHasApproved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.down.Store(true)
		h.decide(edge.Verdict{Waiting: true, Retry: 10 * time.Second})
		home := filepath.Join(t.TempDir(), "hub")
		var heard []string
		done := make(chan error)
		go func() { // received below
			_, err := member.Join(t.Context(), home, "ws://127.0.0.1/", h.invite(), member.JoinOptions{
				Name: "hall", Labels: map[string]string{"site": "home"}, Net: h.dial,
				Waits: func(why string) { heard = append(heard, why) },
			})
			done <- err
		}()
		pass(time.Minute)
		h.down.Store(false)
		pass(3 * time.Minute)
		if _, err := member.OpenHome(t.TempDir() + "/none"); !errors.Is(err, member.ErrNotJoined) {
			t.Errorf("of a folder that is not there OpenHome = %v, want ErrNotJoined", err)
		}
		if _, err := member.OpenHome(home); !errors.Is(err, member.ErrNotJoined) {
			t.Errorf("before it is approved OpenHome = %v, want ErrNotJoined", err)
		}
		h.decide(edge.Verdict{Admitted: true, ID: "id", Name: "hall-2"})
		pass(30 * time.Second)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(heard[0], "unreachable") || !strings.Contains(heard[len(heard)-1], "approve") {
			t.Errorf("it waited for %q, want the network and then an operator", slices.Compact(heard))
		}
		proofs := get(h, &h.proofs)
		if p := proofs[0]; p.Name != "hall" || p.Labels["site"] != "home" || p.Join == nil || string(p.Join.Secret) != "sixteen of these" {
			t.Errorf("it came with %+v", p)
		}
		where, err := member.OpenHome(home)
		if err != nil {
			t.Fatal(err)
		}
		if got := where.Hub(); got.Name != "hall-2" || got.ID != "id" || got.URL != "ws://127.0.0.1/v1/link" {
			t.Errorf("the hub is %+v", got)
		}
		files, err := os.ReadDir(home)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v, %v; want its owner alone to read it", f.Name(), info.Mode(), err)
			}
		}
	})
}

func TestJoiningIsRunAgainAfterAPowerCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.decide(edge.Verdict{Waiting: true})
		home := t.TempDir()
		ctx, cut := context.WithTimeout(t.Context(), time.Minute)
		defer cut()
		if _, err := member.Join(ctx, home, "ws://127.0.0.1", h.invite(), member.JoinOptions{Net: h.dial}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Join = %v, want that it was cut", err)
		}
		h.decide(edge.Verdict{Admitted: true, ID: "id", Name: "hall"})
		for range 2 { // the second time it has joined already
			if _, err := member.Join(t.Context(), home, "ws://127.0.0.1", h.invite(), member.JoinOptions{Net: h.dial}); err != nil {
				t.Fatal(err)
			}
		}
		proofs, counters := get(h, &h.proofs), map[int64]bool{}
		for _, p := range proofs {
			if !slices.Equal(p.Key, proofs[0].Key) || counters[p.Counter] {
				t.Errorf("it came with the key %x and the number %d: want one key, and no number twice", p.Key[:4], p.Counter)
			}
			counters[p.Counter] = true
		}
	})
}

func TestAJoinThatCannotSucceedSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		stranger := h.invite()
		stranger.HubKey, _, _ = ed25519.GenerateKey(rand.Reader)
		joined := joined(t, h)
		for name, c := range map[string]struct {
			home, url string
			v         edge.Invitation
			verdict   edge.Verdict
			want      string
		}{
			"of another hub":          {t.TempDir(), "ws://127.0.0.1", stranger, edge.Verdict{Admitted: true}, "not this node's hub"},
			"refused":                 {t.TempDir(), "ws://127.0.0.1", h.invite(), edge.Verdict{Code: edge.Denied, Message: "no"}, "does not admit"},
			"no URL":                  {t.TempDir(), "ftp:/x", h.invite(), edge.Verdict{}, "no hub's URL"},
			"a member of another hub": {joined, "ws://127.0.0.1", stranger, edge.Verdict{}, "belongs to another hub"},
		} {
			h.decide(c.verdict)
			before := len(get(h, &h.proofs))
			_, err := member.Join(t.Context(), c.home, c.url, c.v, member.JoinOptions{Net: h.dial})
			if e, ok := errors.AsType[*edge.Error](err); !ok || !strings.Contains(e.Message, c.want) || e.Hint == "" {
				t.Errorf("%s: Join = %v, want it to say %q and what to do", name, err, c.want)
			}
			if got := len(get(h, &h.proofs)) - before; got > 0 && name != "refused" {
				t.Errorf("%s: the secret was told", name)
			}
		}
		if err := member.Leave(joined); err != nil {
			t.Fatal(err)
		}
		if _, err := member.OpenHome(joined); !errors.Is(err, member.ErrNotJoined) {
			t.Errorf("once it has left, OpenHome = %v", err)
		}
	})
}
