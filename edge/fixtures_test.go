package edge_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// function makes a function of a name whose code differs by version, and is padded to
// weigh at least that many bytes.
func function(name string, version, weight int) functions.Function {
	code := fmt.Sprintf("export default () => %d", version)
	f, err := functions.New(functions.Manifest{
		APIVersion: functions.APIVersion, Kind: "Function", Metadata: functions.Metadata{Name: name},
		Spec: functions.Spec{Runtime: "javascript", Source: functions.Source{Path: "index.js"}, Triggers: []functions.Trigger{
			{HTTP: &functions.HTTPTrigger{Path: "/" + name}},
		}},
	}, code+strings.Repeat("/", max(0, weight-len(code))))
	if err != nil {
		panic(err)
	}
	return f
}

// ref names a function that is enabled, with it if it is to be inline.
func ref(f functions.Function, inline bool) edge.Ref {
	r := edge.Ref{Name: f.Name(), Revision: f.Revision, Enabled: true}
	if inline {
		r.Function = &f
	}
	return r
}

func set(t testing.TB, epoch string, revision int64, terms edge.Terms, refs ...edge.Ref) *edge.Set {
	t.Helper()
	s, err := edge.NewSet(edge.Position{Epoch: epoch, Revision: revision}, refs, terms)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func bundle(f functions.Function) []byte {
	text, err := edge.Bundle(f)
	if err != nil {
		panic(err)
	}
	return text
}

func text(m edge.Message) string {
	t, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(m.Kind()) + " " + string(t)
}
