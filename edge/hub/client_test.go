package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

func TestAFunctionGoesThroughItsLife(t *testing.T) {
	h := serve(t)
	ctx, c := t.Context(), h.client
	one, two := function(t, "f", "1"), function(t, "f", "2")
	steps := []struct {
		what string
		does func() (edge.Change, error)
		want edge.Change
	}{
		{"try", func() (edge.Change, error) { return c.Deploy(ctx, one, client.DeployOptions{DryRun: true}) },
			edge.Change{Revision: one.Revision, Enabled: true, Created: true, Changed: true, DryRun: true}},
		{"create", func() (edge.Change, error) { return c.Deploy(ctx, one, client.DeployOptions{}) },
			edge.Change{Revision: one.Revision, Enabled: true, Created: true, Changed: true}},
		{"deploy the same", func() (edge.Change, error) { return c.Deploy(ctx, one, client.DeployOptions{}) },
			edge.Change{Revision: one.Revision, Enabled: true}},
		{"disable", func() (edge.Change, error) { return c.Disable(ctx, "f") },
			edge.Change{Revision: one.Revision, Changed: true}},
		{"deploy another", func() (edge.Change, error) {
			return c.Deploy(ctx, two, client.DeployOptions{IfMatch: one.Revision})
		}, edge.Change{Revision: two.Revision, Previous: one.Revision, Changed: true}},
		{"enable", func() (edge.Change, error) { return c.Enable(ctx, "f") },
			edge.Change{Revision: two.Revision, Enabled: true, Changed: true}},
		{"roll back", func() (edge.Change, error) { return c.Rollback(ctx, "f", "") },
			edge.Change{Revision: one.Revision, Previous: two.Revision, Enabled: true, Changed: true}},
		{"roll forward", func() (edge.Change, error) { return c.Rollback(ctx, "f", two.Revision.Short()) },
			edge.Change{Revision: two.Revision, Previous: one.Revision, Enabled: true, Changed: true}},
	}
	for _, s := range steps {
		got, err := s.does()
		s.want.Function, s.want.Spread = "f", edge.Spread{Placed: 1, Connected: 1, Current: 1}
		if got.DryRun {
			s.want.Spread = edge.Spread{}
		}
		if err != nil || got != s.want {
			t.Fatalf("%s: %+v, %v\nwant %+v", s.what, got, err, s.want)
		}
		if on := h.has("f"); !got.DryRun && (on.Function.Revision != got.Revision || on.Enabled != got.Enabled) {
			t.Fatalf("%s: the node has %+v", s.what, on)
		}
	}
	detail, err := c.Function(ctx, "f")
	if err != nil || !reflect.DeepEqual(detail.Function, two) || !detail.Enabled || detail.Status.Phase != edge.Asleep {
		t.Errorf("Function = %+v, %v\nwant %+v", detail, err, two)
	}
	history, err := c.History(ctx, "f")
	if err != nil || len(history) != 6 || history[0].Action != "rollback" || history[0].By != "ada" || !history[0].Current {
		t.Fatalf("History = %+v, %v, want 6 lines, the newest ada's rollback", history, err)
	}
	number := strconv.FormatInt(history[5].Number, 10)
	if old, err := c.Revision(ctx, "f", number); err != nil || !reflect.DeepEqual(old, one) {
		t.Errorf("Revision(%s) = %+v, %v\nwant %+v", number, old, err, one)
	}
	h.waiting["f"] = 7
	deleted, err := c.Delete(ctx, "f", client.DeleteOptions{Purge: true})
	if want := (edge.Deleted{Function: "f", Discarded: 7, Purged: true}); err != nil || deleted != want {
		t.Errorf("Delete = %+v, %v, want %+v", deleted, err, want)
	}
	_, err = c.Function(ctx, "f")
	wantCode(t, "Function", err, edge.NotFound)
	if len(h.defined) != 0 {
		t.Errorf("the node still has %v", h.defined)
	}
}

func TestWhatTheNodeRefusesLeavesNoTrace(t *testing.T) {
	h := serve(t)
	ctx := t.Context()
	_, err := h.client.Deploy(ctx, function(t, "f", "BROKEN"), client.DeployOptions{})
	wantCode(t, "first deploy", err, edge.Invalid)
	if list, err := h.client.Functions(ctx); err != nil || len(list) != 0 {
		t.Errorf("Functions = %v, %v, want none", list, err)
	}
	good := h.deploy(t, "f", "1")
	_, err = h.client.Deploy(ctx, function(t, "f", "BROKEN"), client.DeployOptions{})
	wantCode(t, "second deploy", err, edge.Invalid)
	d, err := h.client.Function(ctx, "f")
	if err != nil || d.Function.Revision != good.Revision || d.Status.Revision != good.Revision {
		t.Errorf("Function = %+v, %v, want %s here and there", d, err, good.Revision)
	}
	if history, err := h.client.History(ctx, "f"); err != nil || len(history) != 1 {
		t.Errorf("History = %v, %v, want one line", history, err)
	}
}

func TestOneOfTwoOperatorsIsToldTheCurrentRevision(t *testing.T) {
	h := serve(t)
	base := h.deploy(t, "f", "1")
	mine := h.deploy(t, "f", "2")
	_, err := h.client.Deploy(t.Context(), function(t, "f", "3"), client.DeployOptions{IfMatch: base.Revision})
	if e := wantCode(t, "Deploy", err, edge.Conflict); !strings.Contains(e.Message, mine.Revision.Short()) {
		t.Errorf("message %q does not name %s", e.Message, mine.Revision.Short())
	}
	if on := h.has("f").Function.Revision; on != mine.Revision {
		t.Errorf("the node has %s, want %s", on, mine.Revision)
	}
}

func TestInvokeTellsWhatTheFunctionSaid(t *testing.T) {
	h := serve(t)
	h.deploy(t, "f", "1")
	out, err := h.client.Invoke(t.Context(), "f", edge.Invoke{Topic: "a/b", Payload: []byte("hi")})
	if err != nil || out.Returned != `"hi"` || !slices.Equal(out.Published, []string{"a/b"}) {
		t.Errorf("Invoke = %+v, %v", out, err)
	}
	out, err = h.client.Invoke(t.Context(), "f", edge.Invoke{Payload: []byte("fail")})
	if err != nil || out.Error == nil || out.Error.Code != functions.CodeThrown {
		t.Errorf("Invoke = %+v, %v, want a failure of the function and no error", out, err)
	}
	_, err = h.client.Invoke(t.Context(), "g", edge.Invoke{})
	wantCode(t, "Invoke of none", err, edge.NotFound)
	_, err = h.client.Invoke(t.Context(), "f", edge.Invoke{Topic: "a/+"})
	wantCode(t, "Invoke on a wildcard", err, edge.Invalid)
	_, err = h.client.Invoke(t.Context(), "f", edge.Invoke{Payload: make([]byte, 1<<20+1)})
	wantCode(t, "Invoke with too much", err, edge.TooLarge)
}

func TestStateIsReadAndChangedByVersion(t *testing.T) {
	h := serve(t)
	ctx, c := t.Context(), h.client
	h.deploy(t, "f", "1")
	none, far := int64(0), int64(99)
	expires := time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, key := range []string{"a", "..", ".", "a/b", "/", "//", "%2F", "a b", "é?#&=+", strings.Repeat("k", 512)} {
		e, err := c.StatePut(ctx, "f", edge.StateEntry{Key: key, Value: `"<1>"`, Expires: expires}, &none)
		if err != nil || e.Key != key {
			t.Fatalf("StatePut(%q) = %+v, %v", key, e, err)
		}
		if got, err := c.StateGet(ctx, "f", key); err != nil || got != e {
			t.Errorf("StateGet(%q) = %+v, %v, want %+v", key, got, err, e)
		}
		_, err = c.StatePut(ctx, "f", edge.StateEntry{Key: key, Value: "2"}, &none)
		wantCode(t, "StatePut of what is there", err, edge.Conflict)
		_, err = c.StatePut(ctx, "f", edge.StateEntry{Key: key, Value: "2"}, &far)
		wantCode(t, "StatePut of another version", err, edge.Conflict)
		if e, err = c.StatePut(ctx, "f", edge.StateEntry{Key: key, Value: "2"}, &e.Version); err != nil {
			t.Fatalf("StatePut of its version: %v", err)
		}
		wantCode(t, "StateDelete of another version", c.StateDelete(ctx, "f", key, &far), edge.Conflict)
		if err := c.StateDelete(ctx, "f", key, &e.Version); err != nil {
			t.Errorf("StateDelete(%q) = %v", key, err)
		}
		_, err = c.StateGet(ctx, "f", key)
		wantCode(t, "StateGet of what is gone", err, edge.NotFound)
	}
}

func TestStateIsListedPageByPage(t *testing.T) {
	h := serve(t)
	h.deploy(t, "f", "1")
	h.quota = 1 << 30
	big := `"` + strings.Repeat("x", 60<<10) + `"`
	for i := range 150 {
		if _, err := h.StatePut(t.Context(), "f", edge.StateEntry{Key: fmt.Sprintf("k%03d", i), Value: big}, nil); err != nil {
			t.Fatal(err)
		}
	}
	seen, after := 0, "k009"
	for {
		list, err := h.client.State(t.Context(), "f", "k", after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		if len(list) > 100 {
			t.Errorf("a page of %d entries is heavier than it may be", len(list))
		}
		seen += len(list)
		after = list[len(list)-1].Key
	}
	if seen != 140 {
		t.Errorf("listed %d keys, want 140", seen)
	}
}

func TestDeadLettersAreListedRedrivenAndDiscarded(t *testing.T) {
	h := serve(t)
	ctx, c := t.Context(), h.client
	for i := range 250 {
		h.dead = append(h.dead, edge.DeadLetter{ID: int64(i + 1), Function: []string{"f", "g"}[i%2], Event: devices.Event{Payload: make([]byte, 100<<10)}})
	}
	seen, after := 0, int64(0)
	for {
		list, err := c.Dead(ctx, edge.Query{After: after, Last: 10000})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		seen += len(list)
		after = list[len(list)-1].ID
	}
	if seen != 250 {
		t.Errorf("listed %d, want 250", seen)
	}
	if n, err := c.Redrive(ctx, edge.DeadChoice{Function: "f", IDs: []int64{1, 2, 3}}); err != nil || n != 2 {
		t.Errorf("Redrive = %d, %v, want 2", n, err)
	}
	if n, err := c.Discard(ctx, edge.DeadChoice{Function: "g"}); err != nil || n != 125 {
		t.Errorf("Discard = %d, %v, want 125", n, err)
	}
	_, err := c.Discard(ctx, edge.DeadChoice{})
	wantCode(t, "Discard of nothing named", err, edge.Invalid)
	if n, err := c.Discard(ctx, edge.DeadChoice{All: true}); err != nil || n != 123 {
		t.Errorf("Discard = %d, %v, want 123", n, err)
	}
}

func TestVersionAndSchemaAreTold(t *testing.T) {
	h := serve(t)
	v, err := h.client.Version(t.Context())
	if err != nil || v.Version != "v1.2.3" || v.Node != "here" || v.API != "v1" {
		t.Errorf("Version = %+v, %v", v, err)
	}
	if got, err := h.client.Schema(t.Context()); err != nil || !bytes.Contains(got, []byte(`"triggers"`)) {
		t.Errorf("Schema = %.100s, %v", got, err)
	}
}

func TestAHubThatIsNotThereIsNamedWithWhatToDo(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + ln.Addr().String()
	ln.Close()
	_, err = client.New(url+"/", "").Functions(t.Context())
	e := wantCode(t, "Functions", err, edge.Unavailable)
	if e.Message != "no sedge hub at "+url || e.Hint != "start one with: sedge up" {
		t.Errorf("error is %q, hint %q", e.Message, e.Hint)
	}
	for _, err := range client.New(url, "").Logs(t.Context(), edge.Query{}) {
		wantCode(t, "Logs", err, edge.Unavailable)
	}
	_, err = client.New("nonsense", "").Version(t.Context())
	wantCode(t, "Version", err, edge.Invalid)
}

func TestTheClientEndsWithItsContext(t *testing.T) {
	h := serve(t)
	h.deploy(t, "f", "1")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := h.client.Invoke(ctx, "f", edge.Invoke{Payload: []byte("wait")})
		done <- err
	}()
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Invoke = %v, want %v", err, context.Canceled)
	}
}
