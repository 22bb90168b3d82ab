package member

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"log/slog"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// echoing is an agent that does nothing and answers with what it was asked.
type echoing struct{}

func (echoing) Synced() edge.Synced { return edge.Synced{} }
func (echoing) Apply(context.Context, []edge.Definition, []edge.Removal, edge.Synced) ([]edge.Unfit, map[string]int, error) {
	return nil, nil, nil
}
func (echoing) Reports() []edge.FunctionReport                { return nil }
func (echoing) Functions() []edge.FunctionStatus              { return nil }
func (echoing) Try(context.Context, functions.Function) error { return nil }
func (echoing) Invoke(_ context.Context, name string, in edge.Invoke) (edge.Invoked, error) {
	return edge.Invoked{Invocation: name, Returned: string(in.Payload)}, nil
}
func (echoing) Logs(_ context.Context, q edge.Query) iter.Seq[edge.LogLine] {
	return func(yield func(edge.LogLine) bool) { yield(edge.LogLine{Function: q.Function}) }
}
func (echoing) Steps(_ context.Context, q edge.Query) iter.Seq[edge.Step] {
	return func(yield func(edge.Step) bool) { yield(edge.Step{Function: q.Function}) }
}
func (echoing) Dead(_ context.Context, q edge.Query) ([]edge.DeadLetter, error) {
	return []edge.DeadLetter{{Function: q.Function}}, nil
}
func (echoing) Redrive(_ context.Context, _ string, ids []int64) (int, error) { return len(ids), nil }
func (echoing) Discard(_ context.Context, _ string, ids []int64) (int, error) { return len(ids), nil }
func (echoing) State(_ context.Context, function, prefix, after string, _ int) ([]edge.StateEntry, error) {
	return []edge.StateEntry{{Key: function + prefix + after}}, nil
}
func (echoing) StateGet(_ context.Context, function, key string) (edge.StateEntry, error) {
	return edge.StateEntry{Key: function + key}, nil
}
func (echoing) StatePut(_ context.Context, function string, e edge.StateEntry, _ *int64) (edge.StateEntry, error) {
	return e, nil
}
func (echoing) StateDelete(context.Context, string, string, *int64) error { return nil }

// Whatever a call is, there is one answer at its end, and it can be sent.
func FuzzACallIsAnsweredOnce(f *testing.F) {
	for verb := range verbs {
		f.Add(string(verb), []byte(`{}`))
	}
	f.Add("logs", []byte(`{"Function":"a","Follow":true}`))
	f.Add("events", []byte(`[]`))
	f.Add("state.put", []byte(`{"function":"a","entry":{"key":"k","value":"1"}}`))
	f.Add("invoke", []byte(`{"function":"a","payload":"aGk="}`))
	f.Add("dance", []byte(`null`))
	lg := slog.New(slog.NewTextHandler(io.Discard, nil))
	f.Fuzz(func(t *testing.T, verb string, body []byte) {
		if len(body) > 0 && !json.Valid(body) {
			return // such a message is not decoded
		}
		last := 0
		c := newCalls(&Member{Config: Config{Agent: echoing{}, Logger: lg}}, func(m edge.Message) {
			if _, err := edge.Encode(m); err != nil {
				t.Errorf("the answer cannot be sent: %v", err)
			}
			if a := m.(*edge.Answer); a.ID != 7 {
				t.Errorf("the answer is to call %d", a.ID)
			} else if !a.More {
				last++
			}
		})
		c.begin(t.Context(), &edge.Call{ID: 7, Verb: edge.Verb(verb), Body: body})
		c.wait()
		if last != 1 || len(c.open) != 0 {
			t.Errorf("%d ends, %d calls open; want one end", last, len(c.open))
		}
	})
}
