package edge_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// samples is one message of each kind, with all that it may hold.
func samples() []edge.Message {
	f, at := function("f", 1, 0), edge.Position{Epoch: "e", Revision: 7, Digest: "d"}
	why := &edge.Error{Code: edge.Invalid, Message: "why", Hint: "what to do"}
	body := json.RawMessage(`{"x":1}`)
	return []edge.Message{
		&edge.Whole{At: at, Functions: []edge.Ref{ref(f, true)}, Purged: []edge.Removal{{Name: "g", Purge: true}}, Accepts: "d", Confirmed: true},
		&edge.Delta{From: at, At: at, Put: []edge.Ref{ref(f, false)}, Remove: []edge.Removal{{Name: "g"}}, Confirmed: true},
		&edge.Chunk{Revision: f.Revision, Offset: 3, Total: 9, Data: []byte{0, 1, 2}},
		&edge.Current{At: at, Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)},
		&edge.Call{ID: 1, Verb: edge.VerbLogs, Body: body},
		&edge.Cancel{ID: 1},
		&edge.At{At: at, Unfit: []edge.Unfit{{Name: "f", Revision: f.Revision, Error: why}}, Discarded: map[string]int{"g": 2}},
		&edge.Refusal{Of: edge.KindWhole, To: at, At: at, Reason: edge.RefusedHeld, Why: "at night only"},
		&edge.Fetch{Revision: f.Revision, Offset: 3},
		&edge.Upgrade{Release: edge.Release{Version: "v1.4.0", Size: 3}, Downgrade: true},
		&edge.UpgradeFetch{Digest: "ab", Offset: 3},
		&edge.UpgradeChunk{Digest: "ab", Offset: 3, Data: []byte("x")},
		&edge.Report{Functions: []edge.FunctionReport{{Name: "f", Runs: 3}}, Gone: []string{"g"}, Away: &edge.Away{Runs: 3}},
		&edge.Answer{ID: 1, Body: body, Error: why, More: true},
	}
}

func TestEveryMessageComesOutAsItWentIn(t *testing.T) {
	for _, m := range samples() {
		data, err := edge.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := edge.Decode(data)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("Decode(%s) = %s, %v", data, text(got), err)
		}
	}
}

func TestWhatIsUnknownIsPassedOverOrNamed(t *testing.T) {
	m, err := edge.Decode([]byte(`{"kind":"cancel","body":{"id":3,"new":[1]},"other":{}}`))
	if err != nil || !reflect.DeepEqual(m, &edge.Cancel{ID: 3}) {
		t.Errorf("with fields of a newer version: %v, %v", m, err)
	}
	if _, err := edge.Decode([]byte(`{"kind":"later","body":{}}`)); !errors.Is(err, edge.ErrUnknown) {
		t.Errorf("of a newer kind: %v, want ErrUnknown", err)
	}
}

func TestAMessageThatIsTooLargeIsNeitherSentNorRead(t *testing.T) {
	if _, err := edge.Encode(&edge.Chunk{Data: make([]byte, edge.MaxMessage)}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("Encode = %v", err)
	}
	if _, err := edge.Decode(bytes.Repeat([]byte(" "), edge.MaxMessage+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("Decode = %v", err)
	}
}

// What is read is a message that, said again, is read as the same.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		data, _ := edge.Encode(m)
		f.Add(data)
	}
	f.Add([]byte(`{"kind":"whole","body":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := edge.Decode(data)
		if err != nil {
			return
		}
		again, err := edge.Encode(m)
		if err != nil { // an escape may be longer than what it stands for
			if len(again) == 0 && 6*len(data) < edge.MaxMessage {
				t.Fatalf("what was read cannot be sent: %v", err)
			}
			return
		}
		second, err := edge.Decode(again)
		if err != nil {
			t.Fatalf("%s is not read: %v", again, err)
		}
		if third, err := edge.Encode(second); err != nil || !bytes.Equal(third, again) {
			t.Errorf("%s comes out as %s, %v", again, third, err)
		}
	})
}
