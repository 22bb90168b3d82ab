package node

import (
	"testing"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

func TestHealthSaysWhatIsNotWell(t *testing.T) {
	lg := testLog(t)
	o := Options{Name: "here", DataDir: t.TempDir()}
	n, _ := runOn(t, o, func(st *store.Store) (Carrier, error) {
		o.MQTT.URL = "mqtt://127.0.0.1:1" // where nobody listens
		return o.Dial(lg)(st)
	}, lg)
	m, err := functions.Parse("test", []byte(`
apiVersion: sedge.dev/v1
kind: Function
metadata: {name: lamp}
spec:
  runtime: javascript
  source: {inline: "export default () => 1"}
  triggers: [{schedule: {every: 1h}}]
`))
	if err != nil {
		t.Fatal(err)
	}
	f, err := functions.New(m, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Agent.Put(t.Context(), edge.Definition{Function: f, Enabled: true}); err != nil {
		t.Fatal(err)
	}
	h := n.Health()
	for name, well := range map[string]bool{"check store": true, "check broker": false, "function lamp": true} {
		if why, ok := h[name]; !ok || (why == "") != well {
			t.Errorf("of %s it says %q, %v, want it well: %v", name, why, ok, well)
		}
	}
}
