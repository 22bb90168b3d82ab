package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

func TestAVersionPassesAStageOnceItsNodesHaveConfirmedIt(t *testing.T) {
	u, err := BeginUpgrade(edge.UpgradeAsk{Version: "v2.0.0", Stages: []edge.Stage{{Count: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	is := func(p edge.UpgradeReport) Seen { return OfProgram(Seen{ID: "a", Name: "attic", Online: true}, &p) }
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	u.Since = now // as the ledger sets it
	r, _ := Step(u.Rollout, []Seen{is(edge.UpgradeReport{Version: "v1.0.0"})}, now)
	for _, c := range []struct {
		name string
		says edge.UpgradeReport
		want edge.RolloutState
		why  string
	}{
		{"not there yet", edge.UpgradeReport{Version: "v1.0.0"}, edge.Rolling, "waits"},
		{"on trial", edge.UpgradeReport{Version: "v2.0.0", Trial: true}, edge.Rolling, "on trial"},
		{"confirmed", edge.UpgradeReport{Version: "v2.0.0"}, edge.Completed, ""},
		{"given up", edge.UpgradeReport{Version: "v1.0.0", Failed: &edge.UpgradeFailure{Version: "v2.0.0", Why: "it crashed"}}, edge.RolledBack, "it crashed"},
		{"refused", edge.UpgradeReport{Version: "v1.0.0", Refused: &edge.UpgradeRefusal{Version: "v2.0.0", Why: "no trusted key"}}, edge.RolledBack, "no trusted key"},
	} {
		got, _ := Step(r, []Seen{is(c.says)}, now.Add(time.Minute))
		if got.State != c.want || !strings.Contains(got.Why, c.why) {
			t.Errorf("%s: it is %s, %q; want %s, %q", c.name, got.State, got.Why, c.want, c.why)
		}
	}
}
