package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

func TestAVersionPassesAStageOnceItsNodesHaveConfirmedIt(t *testing.T) {
	const order = 3
	u, err := BeginUpgrade(edge.UpgradeAsk{Version: "v2.0.0", Stages: []edge.Stage{{Count: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	is := func(p *edge.UpgradeReport) Seen {
		return OfProgram(Seen{ID: "a", Name: "attic", Online: true}, p, order)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	u.Since = now // as the ledger sets it
	r, _ := Step(u.Rollout, []Seen{is(&edge.UpgradeReport{Version: "v1.0.0"})}, now)
	for _, c := range []struct {
		name string
		says *edge.UpgradeReport
		want edge.RolloutState
		why  string
	}{
		{"nothing yet", nil, edge.Rolling, "can be reached"},
		{"not there yet", &edge.UpgradeReport{Version: "v1.0.0"}, edge.Rolling, "waits"},
		{"on trial", &edge.UpgradeReport{Version: "v2.0.0", Trial: true}, edge.Rolling, "on trial"},
		{"confirmed", &edge.UpgradeReport{Version: "v2.0.0"}, edge.Completed, ""},
		{"given up", &edge.UpgradeReport{Version: "v1.0.0", Failed: &edge.UpgradeFailure{Order: order, Version: "v2.0.0", Why: "it crashed"}}, edge.RolledBack, "it crashed"},
		{"left in doubt", &edge.UpgradeReport{Version: "v1.0.0", Failed: &edge.UpgradeFailure{Order: order, Version: "v2.0.0", Why: "no hub", Doubt: true}}, edge.Rolling, "tried again: no hub"},
		{"given up once before", &edge.UpgradeReport{Version: "v1.0.0", Failed: &edge.UpgradeFailure{Order: 2, Version: "v2.0.0", Why: "it crashed"}}, edge.Rolling, "waits"},
		{"refused", &edge.UpgradeReport{Version: "v1.0.0", Refused: &edge.UpgradeRefusal{Order: order, Version: "v2.0.0", Why: "no trusted key"}}, edge.Rolling, "no trusted key"},
		{"held by its owner", &edge.UpgradeReport{Version: "v1.0.0", Refused: &edge.UpgradeRefusal{Order: order, Version: "v2.0.0", Why: "night", Held: true}}, edge.Rolling, "can be reached"},
		{"without a place for versions", &edge.UpgradeReport{Version: "v1.0.0", Fault: "read-only"}, edge.Rolling, "read-only"},
	} {
		got, _ := Step(r, []Seen{is(c.says)}, now.Add(time.Minute))
		if got.State != c.want || !strings.Contains(got.Why, c.why) {
			t.Errorf("%s: it is %s, %q; want %s, %q", c.name, got.State, got.Why, c.want, c.why)
		}
	}
}
