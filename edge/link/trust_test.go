package link_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
)

func discard(*link.Conn) func([]byte) error { return func([]byte) error { return nil } }

// dialOnce says how a dial went, and ends the session if there is one.
func dialOnce(t *testing.T, d *link.Dialer, c link.Clock) error {
	t.Helper()
	conn, _, err := d.Dial(t.Context(), c, edge.Proof{Name: "hall"})
	if err != nil {
		return err
	}
	conn.Close("")
	return conn.Serve(t.Context(), func([]byte) error { return nil })
}

// TestCertificatesAreJudgedByWhatIsKnownOfTheTime is the matrix of four clocks and four
// certificates.
func TestCertificatesAreJudgedByWhatIsKnownOfTheTime(t *testing.T) {
	real := time.Now()
	floor := real.AddDate(0, -1, 0) // when the hub was last heard
	clocks := []struct {
		name  string
		clock link.Clock
		want  [4]error // by certificate
	}{
		{"set", link.Clock{Now: real, Floor: floor, Trusted: true}, [4]error{nil, link.ErrWrongTime, link.ErrWrongTime, link.ErrWrongCA}},
		{"1970", link.Clock{Now: time.Unix(0, 0), Floor: floor}, [4]error{nil, link.ErrWrongTime, nil, link.ErrWrongCA}},
		{"ten years ahead", link.Clock{Now: real.AddDate(10, 0, 0), Floor: floor}, [4]error{nil, link.ErrWrongTime, nil, link.ErrWrongCA}},
		{"1970, and nothing known", link.Clock{Now: time.Unix(0, 0)}, [4]error{nil, nil, nil, link.ErrWrongCA}},
	}
	ours, other := newAuthority(t), newAuthority(t)
	hubs := []struct {
		name string
		hub  *hub
	}{
		{"good", newHubAt(t, ours, real, discard)},
		{"expired", newHubAt(t, ours, real.AddDate(-2, 0, 0), discard)},
		{"not yet valid", newHubAt(t, ours, real.AddDate(1, 0, 0), discard)},
		{"of another authority", newHubAt(t, other, real, discard)},
	}
	for i, h := range hubs {
		for _, c := range clocks {
			for _, trust := range []struct {
				name string
				link.Trust
			}{{"pin", link.Trust{Pin: ours.Pin()}}, {"PEM", link.Trust{Own: ours.PEM()}}} {
				t.Run(fmt.Sprintf("%s/%s/%s", h.name, c.name, trust.name), func(t *testing.T) {
					d := h.hub.dialer(t)
					d.Trust = trust.Trust
					if err := dialOnce(t, d, c.clock); !errors.Is(err, c.want[i]) || c.want[i] == nil && err != nil {
						t.Errorf("Dial = %v, want %v", err, c.want[i])
					}
				})
			}
		}
	}
}

func TestASetClockCountsMoreThanAFloorThatSomebodyGotWrong(t *testing.T) {
	h := newHub(t, discard)
	if err := dialOnce(t, h.dialer(t), link.Clock{Now: time.Now(), Floor: time.Now().AddDate(30, 0, 0), Trusted: true}); err != nil {
		t.Errorf("Dial = %v, want none", err)
	}
}

func TestAHubThatIsNotTheOneIsToldApart(t *testing.T) {
	h := newHub(t, discard)
	_, port, _ := strings.Cut(h.addr, ":")
	for _, tt := range []struct {
		name   string
		change func(*link.Dialer)
		want   error
	}{
		{"key", func(d *link.Dialer) { d.Hub = public(newKey(t)) }, link.ErrWrongHub},
		{"name", func(d *link.Dialer) { d.URL = "wss://localhost:" + port + link.Path }, link.ErrWrongName},
		{"authority of the system", func(d *link.Dialer) { d.Trust = link.Trust{} }, link.ErrWrongCA},
		{"pin of the server itself", func(d *link.Dialer) { d.Trust.Pin = make([]byte, 32) }, link.ErrWrongCA},
		{"an own authority besides the system's", func(d *link.Dialer) { d.Trust = link.Trust{Extra: h.ca.PEM()} }, nil},
	} {
		d := h.dialer(t)
		tt.change(d)
		if err := dialOnce(t, d, now()); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("another %s: Dial = %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestOnlyATrustworthyURLIsDialled(t *testing.T) {
	d := &link.Dialer{Hub: public(newKey(t)), Key: newKey(t)}
	for url, want := range map[string]string{
		"ws://hub.example/v1/link":      "write wss",
		"ws://127.0.0.1.example/":       "write wss",
		"ws://192.168.1.2/v1/link":      "write wss",
		"https://hub.example/v1/link":   "is not wss",
		"hub.example":                   "is not like wss",
		"wss://":                        "is not like wss",
		"wss://user:secret@hub.example": "is not like wss",
		"wss://hub.example:port/":       "invalid port",
	} {
		d.URL = url
		if _, _, err := d.Dial(t.Context(), now(), edge.Proof{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Dial of %s = %v, want an error with %q", url, err, want)
		}
	}
	d.URL, d.Trust.Own = "wss://127.0.0.1:1/", []byte("no PEM")
	if _, _, err := d.Dial(t.Context(), now(), edge.Proof{}); err == nil || !strings.Contains(err.Error(), "no certificate in the PEM") {
		t.Errorf("Dial with bad PEM = %v, want that said", err)
	}
}

func TestWhatAnswersInsteadOfAHubIsTold(t *testing.T) {
	endless := strings.Repeat("x", 1<<10)
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
		after  time.Duration
	}{
		{"another server", http.NotFound, `HTTP status 404 instead of a websocket: "404 page not found"`, 0},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "HTTP status 302", 0},
		{"a hub with much to do", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(503)
		}, "HTTP status 503", 7 * time.Second},
		{"a date to come again", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "Fri, 27 Nov 2026 00:00:00 GMT")
			w.WriteHeader(503)
		}, "HTTP status 503", 0},
		{"one that does not stop", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write([]byte(endless)) // until the node has had enough
			}
		}, "HTTP status 200", 0},
		{"one that does not stop before it begins", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 1000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), endless)
			}
			w.WriteHeader(101)
		}, "too much is said", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHub(t, discard)
			h.answer = tt.answer
			_, _, err := h.dialer(t).Dial(t.Context(), now(), edge.Proof{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || link.RetryAfter(err) != tt.after || len(err.Error()) > 500 {
				t.Errorf("Dial = %v, want %q, and to come again after %v", err, tt.want, tt.after)
			}
		})
	}
}
