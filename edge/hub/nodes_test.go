package hub_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/member"
)

// pair serves a hub with two nodes, hall and yard.
func pair(t *testing.T) (h *house, hall, yard *machine) {
	t.Helper()
	h = build(t, newNode(), t.TempDir()).listen(t)
	hall = h.settle(t, "hall", map[string]string{"room": "hall"}, newNode())
	yard = h.settle(t, "yard", map[string]string{"room": "yard"}, newNode())
	return h, hall, yard
}

func names(list []edge.NodeDetail) (names []string) {
	for _, n := range list {
		names = append(names, n.Name)
	}
	return names
}

func TestNodesAreListedBySelectorAndFromANameOn(t *testing.T) {
	h, hall, _ := pair(t)
	for _, tt := range []struct {
		selector, after string
		want            []string
	}{
		{"", "", []string{"hall", "yard"}},
		{"", "hall", []string{"yard"}},
		{"", "yard", nil},
		{"room=yard", "", []string{"yard"}},
		{"room notin (yard)", "", []string{"hall"}},
		{"kubernetes.io/hostname=hall", "", []string{"hall"}},
		{"room=none", "", nil},
	} {
		list, err := h.client.Nodes(t.Context(), tt.selector, tt.after)
		if got := names(list); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("Nodes(%q, %q) = %q, %v, want %q", tt.selector, tt.after, got, err, tt.want)
		}
	}
	_, err := h.client.Nodes(t.Context(), "room in", "")
	wantCode(t, "Nodes of no selector", err, edge.Invalid)
	for _, node := range []string{"hall", hall.id} {
		d, err := h.client.Node(t.Context(), node)
		if err != nil || d.ID != hall.id || d.Name != "hall" || !d.Connected || d.Version != "v1.2.3" || d.Address == "" || d.Standing != edge.Member {
			t.Errorf("Node(%q) = %+v, %v", node, d, err)
		}
	}
	_, err = h.client.Node(t.Context(), "attic")
	wantCode(t, "Node of none", err, edge.NotFound)
	about, err := h.client.Diagnose(t.Context(), "hall")
	if err != nil || about.Version != "v1.2.3" || about.Synced.Epoch == "" {
		t.Errorf("Diagnose = %+v, %v", about, err)
	}
}

func TestACordonedNodeKeepsWhatItRuns(t *testing.T) {
	h, hall, yard := pair(t)
	ctx := t.Context()
	h.deploy(t, "f", "1")
	n, err := h.client.Cordon(ctx, "hall")
	if err != nil || !n.Cordoned || !n.Connected {
		t.Errorf("Cordon = %+v, %v", n, err)
	}
	if d, err := h.client.Node(ctx, "hall"); err != nil || !d.Cordoned {
		t.Errorf("Node = %+v, %v, want it cordoned", d, err)
	}
	h.deploy(t, "f", "2")
	if got := hall.has("f").Function.Code + yard.has("f").Function.Code; got != "12" {
		t.Errorf("hall and yard have %s, want 1 and 2", got)
	}
	if n, err = h.client.Uncordon(ctx, "hall"); err != nil || n.Cordoned {
		t.Errorf("Uncordon = %+v, %v", n, err)
	}
	until(t, "hall has the new one", func() bool { return hall.has("f").Function.Code == "2" })
}

func TestLabelsDecideWhatANodeGets(t *testing.T) {
	h, hall, yard := pair(t)
	ctx := t.Context()
	_, err := h.client.Deploy(ctx, function(t, "f", "1"), client.DeployOptions{Rollout: &edge.RolloutAsk{Selector: "room=yard"}})
	if err != nil || hall.has("f").Function.Code != "" || yard.has("f").Function.Code != "1" {
		t.Fatalf("Deploy = %v, hall has %+v", err, hall.has("f"))
	}
	floor, room := "2", "yard"
	n, err := h.client.Label(ctx, "hall", map[string]*string{"room": &room, "floor": &floor}, false)
	if err != nil || n.Labels["room"] != "yard" || n.Labels["floor"] != "2" {
		t.Errorf("Label = %+v, %v", n, err)
	}
	until(t, "hall has f", func() bool { return hall.has("f").Function.Code == "1" })
	if n, err = h.client.Label(ctx, "hall", map[string]*string{"room": nil}, false); err != nil || len(n.Labels) != 1 {
		t.Errorf("Label = %+v, %v, want the floor alone", n, err)
	}
	until(t, "hall has lost f", func() bool { return hall.has("f").Function.Code == "" })
	bad := "no such value/"
	_, err = h.client.Label(ctx, "hall", map[string]*string{"room": &bad}, false)
	wantCode(t, "Label", err, edge.Invalid)
	_, err = h.client.Label(ctx, "attic", map[string]*string{"room": &room}, false)
	wantCode(t, "Label of none", err, edge.NotFound)
}

func TestOneThatIsRevokedIsShutOutForEverAndOneThatIsRemovedMayComeAgain(t *testing.T) {
	h, hall, yard := pair(t)
	ctx := t.Context()
	n, err := h.client.Revoke(ctx, "hall")
	if err != nil || n.Standing != edge.Revoked || n.Why != "revoked by ada" {
		t.Errorf("Revoke = %+v, %v", n, err)
	}
	until(t, "hall is cut off", func() bool { d, err := h.client.Node(ctx, hall.id); return err == nil && !d.Connected })
	_, err = h.client.Approve(ctx, hall.id)
	wantCode(t, "Approve", err, edge.Conflict)
	if err := h.client.RemoveNode(ctx, "yard"); err != nil {
		t.Fatal(err)
	}
	_, err = h.client.Node(ctx, "yard")
	wantCode(t, "Node", err, edge.NotFound)
	_, err = h.client.Functions(ctx)
	if err != nil {
		t.Errorf("Functions of no node = %v", err)
	}
	yard.end()
	made, err := h.client.MakeToken(ctx, edge.TokenAsk{TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := member.Leave(yard.home); err != nil {
		t.Fatal(err)
	}
	if _, err := h.join(t, yard.home, "yard", made.Text, nil); err != nil {
		t.Fatalf("Join = %v", err)
	}
	yard.connect(t, h)
}

// join has a machine join by what an operator was given.
func (h *house) join(t testing.TB, home, name, text string, waits func(string)) (member.Hub, error) {
	t.Helper()
	invitation, err := edge.ParseInvitation(text)
	if err != nil {
		t.Fatal(err)
	}
	return member.Join(t.Context(), home, "ws://"+h.addr, invitation, member.JoinOptions{Name: name, Version: "v1", Waits: waits})
}

func TestAJoinTokenLetsInAsManyAsItSays(t *testing.T) {
	h := build(t, newNode(), t.TempDir()).listen(t)
	ctx, c := t.Context(), h.client
	made, err := c.MakeToken(ctx, edge.TokenAsk{TTL: time.Hour, Labels: map[string]string{"site": "east"}, Uses: 2})
	if err != nil || made.Uses != 2 || made.By != "ada" {
		t.Fatalf("MakeToken = %+v, %v", made, err)
	}
	if _, err := h.join(t, t.TempDir(), "one", made.Text, nil); err != nil {
		t.Fatalf("Join = %v", err)
	}
	list, err := c.Tokens(ctx)
	if err != nil || len(list) != 1 || list[0].ID != made.ID || list[0].Uses != 1 {
		t.Errorf("Tokens = %+v, %v, want one with one use left", list, err)
	}
	if _, err := h.join(t, t.TempDir(), "two", made.Text, nil); err != nil {
		t.Fatalf("Join = %v", err)
	}
	_, err = h.join(t, t.TempDir(), "three", made.Text, nil)
	wantCode(t, "the third Join", err, edge.Denied)
	if list, err := c.Tokens(ctx); err != nil || len(list) != 0 {
		t.Errorf("Tokens = %+v, %v, want none", list, err)
	}
	until(t, "two nodes with the token's labels", func() bool {
		nodes, err := c.Nodes(ctx, "site=east", "")
		return err == nil && slices.Equal(names(nodes), []string{"one", "two"}) && nodes[0].Token == made.ID
	})
}

func TestARevokedJoinTokenLetsNobodyIn(t *testing.T) {
	h := build(t, newNode(), t.TempDir()).listen(t)
	made, err := h.client.MakeToken(t.Context(), edge.TokenAsk{TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.client.RevokeToken(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "RevokeToken again", h.client.RevokeToken(t.Context(), made.ID), edge.NotFound)
	_, err = h.join(t, t.TempDir(), "one", made.Text, nil)
	wantCode(t, "Join", err, edge.Denied)
	for what, ask := range map[string]edge.TokenAsk{
		"no time": {}, "too long": {TTL: edge.MaxTokenTTL + 1}, "less than none": {TTL: time.Hour, Uses: -1}, "too many": {TTL: time.Hour, Uses: 10_001},
		"no label": {TTL: time.Hour, Labels: map[string]string{"a b": "c"}},
	} {
		_, err := h.client.MakeToken(t.Context(), ask)
		wantCode(t, what, err, edge.Invalid)
	}
}

func TestANodeThatNeedsApprovalWaitsForIt(t *testing.T) {
	h := build(t, newNode(), t.TempDir()).listen(t)
	made, err := h.client.MakeToken(t.Context(), edge.TokenAsk{TTL: time.Hour, Approval: true})
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan string, 100)
	joined := make(chan error, 1)
	home := t.TempDir()
	go func() {
		_, err := h.join(t, home, "one", made.Text, func(why string) { waits <- why })
		joined <- err
	}()
	<-waits
	until(t, "the node is known", func() bool {
		d, err := h.client.Node(t.Context(), "one")
		return err == nil && d.Standing == edge.Waiting
	})
	_, err = h.client.On("one").Dead(t.Context(), edge.Query{Last: 1})
	wantCode(t, "Dead of one who waits", err, edge.Conflict)
	n, err := h.client.Approve(t.Context(), "one")
	if err != nil || n.Standing != edge.Member {
		t.Errorf("Approve = %+v, %v", n, err)
	}
	if err := <-joined; err != nil {
		t.Errorf("Join = %v", err)
	}
}

func TestAFunctionRunsThoughACordonedNodeKeepsTheOldOne(t *testing.T) {
	h, hall, yard := pair(t)
	ctx, c := t.Context(), h.client
	h.deploy(t, "f", "1")
	until(t, "both have it", func() bool { return hall.has("f").Enabled && yard.has("f").Enabled })
	if _, err := c.Cordon(ctx, "yard"); err != nil {
		t.Fatal(err)
	}
	next := function(t, "f", "2")
	h.deploy(t, "f", "2")
	until(t, "hall has the new one", func() bool { return hall.has("f").Function.Revision == next.Revision })
	var d edge.FunctionDetail
	until(t, "nobody waits for yard", func() bool {
		var err error
		d, err = c.Function(ctx, "f")
		return err == nil && d.Status.Phase != edge.Starting
	})
	if want := (edge.Spread{Placed: 2, Connected: 2, Current: 1}); d.Spread != want {
		t.Errorf("Spread = %+v, want %+v", d.Spread, want)
	}
	if _, err := c.Uncordon(ctx, "yard"); err != nil {
		t.Fatal(err)
	}
	until(t, "yard has the new one", func() bool { return yard.has("f").Function.Revision == next.Revision })
}

func TestWhatOnlyANodeKnowsIsAskedOfTheOneThatIsNamed(t *testing.T) {
	h, hall, yard := pair(t)
	ctx, c := t.Context(), h.client
	h.deploy(t, "f", "1")
	until(t, "both have it", func() bool { return hall.has("f").Enabled && yard.has("f").Enabled })
	if _, err := c.On("hall").StatePut(ctx, "f", edge.StateEntry{Key: "k", Value: "1"}, nil); err != nil {
		t.Fatal(err)
	}
	if e, err := c.On("hall").StateGet(ctx, "f", "k"); err != nil || e.Value != "1" {
		t.Errorf("StateGet on hall = %+v, %v", e, err)
	}
	_, err := c.On(yard.id).StateGet(ctx, "f", "k")
	wantCode(t, "StateGet on yard", err, edge.NotFound)
	if out, err := c.On("yard").Invoke(ctx, "f", edge.Invoke{Payload: []byte("x")}); err != nil || out.Returned != `"x"` {
		t.Errorf("Invoke on yard = %+v, %v", out, err)
	}
	yard.mu.Lock()
	yard.dead = []edge.DeadLetter{{ID: 1, Function: "f"}}
	yard.mu.Unlock()
	if list, err := c.On("yard").Dead(ctx, edge.Query{Last: 10}); err != nil || len(list) != 1 || list[0].Node != "yard" {
		t.Errorf("Dead on yard = %+v, %v, want one of yard", list, err)
	}
	if list, err := c.On("hall").Dead(ctx, edge.Query{Last: 10}); err != nil || len(list) != 0 {
		t.Errorf("Dead on hall = %+v, %v, want none", list, err)
	}

	_, err = c.Invoke(ctx, "f", edge.Invoke{})
	if e := wantCode(t, "Invoke without a name", err, edge.Invalid); !strings.Contains(e.Message, "hall, yard") {
		t.Errorf("it says %q, want both names", e.Message)
	}
	_, err = c.State(ctx, "f", "", "", 1)
	wantCode(t, "State without a name", err, edge.Invalid)
	_, err = c.On("attic").Invoke(ctx, "f", edge.Invoke{})
	wantCode(t, "Invoke on none", err, edge.NotFound)
}

func TestANodeThatIsAwayIsNamed(t *testing.T) {
	h, hall, _ := pair(t)
	ctx := t.Context()
	h.deploy(t, "f", "1")
	hall.leave(t, h)
	c := h.client.On("hall")
	_, invoked := c.Invoke(ctx, "f", edge.Invoke{})
	_, state := c.State(ctx, "f", "", "", 1)
	_, dead := c.Dead(ctx, edge.Query{Last: 1})
	_, diagnosed := c.Diagnose(ctx, "hall")
	errs := map[string]error{"Invoke": invoked, "State": state, "Dead": dead, "Diagnose": diagnosed}
	for _, err := range c.Logs(ctx, edge.Query{Last: -1}) {
		errs["Logs"] = err
	}
	for what, err := range errs {
		if e := wantCode(t, what, err, edge.Unavailable); !strings.Contains(e.Message, "node hall is not connected") {
			t.Errorf("%s says %q, want which node", what, e.Message)
		}
	}
	if len(errs) != 5 {
		t.Error("Logs of one who is away are empty, want why")
	}
	list, err := c.Functions(ctx)
	if err != nil || len(list) != 1 || !strings.Contains(list[0].Reason, "hall is not connected") {
		t.Errorf("Functions = %+v, %v, want the reason", list, err)
	}
}

func TestWhatSeveralNodesSayIsToldTogether(t *testing.T) {
	h, hall, yard := pair(t)
	ctx, c := t.Context(), h.client
	h.deploy(t, "f", "1")
	for _, m := range []*machine{hall, yard} {
		m.mu.Lock()
		m.reports["f"] = edge.FunctionReport{Runs: 10, Failed: 2, Dead: 1}
		m.mu.Unlock()
	}
	var list []edge.FunctionStatus
	until(t, "both have reported", func() bool {
		var err error
		list, err = c.Functions(ctx)
		return err == nil && len(list) == 1 && list[0].Counts.Taken == 20
	})
	if s := list[0]; s.Dead != 2 || s.Counts.Done != 16 || s.Phase != edge.Asleep {
		t.Errorf("Functions = %+v, want the sums", s)
	}
	yard.mu.Lock()
	yard.reports["f"] = edge.FunctionReport{Phase: edge.Failing, Reason: "no module"}
	yard.mu.Unlock()
	until(t, "it is told where it fails", func() bool {
		d, err := c.Function(ctx, "f")
		return err == nil && d.Status.Phase == edge.Failing && d.Status.Reason == "yard: no module" && d.Spread.Failing == 1
	})
	for range 20 { // in whatever order they are looked at
		if d, err := c.Function(ctx, "f"); err != nil || d.Status.Phase != edge.Failing || d.Status.Reason != "yard: no module" {
			t.Fatalf("Function = %+v, %v, want where it fails", d.Status, err)
		}
	}

	for i := range 3 {
		hall.say("f", fmt.Sprint("hall ", i))
		yard.say("f", fmt.Sprint("yard ", i))
	}
	var lines []string
	for line, err := range c.Logs(ctx, edge.Query{Last: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line.Node+": "+line.Text)
	}
	want := []string{"hall: hall 0", "yard: yard 0", "hall: hall 1", "yard: yard 1", "hall: hall 2", "yard: yard 2"}
	if !slices.Equal(lines, want) {
		t.Errorf("Logs = %q, want %q", lines, want)
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	said := make(chan bool)
	go func() {
		defer close(said)
		for _, m := range []*machine{hall, yard} {
			for m.followers() == 0 {
				runtime.Gosched()
			}
		}
		hall.say("f", "first")
	}()
	var came []string
	for step, err := range c.Events(following, edge.Query{Last: 0, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if came = append(came, step.Node+": "+step.Why); len(came) == 1 {
			yard.say("f", "second")
			continue
		}
		break
	}
	<-said
	if want := []string{"hall: first", "yard: second"}; !slices.Equal(came, want) {
		t.Errorf("Events = %q, want %q", came, want)
	}
}

func TestANodeThatIsGoneUnnoticedKeepsNoDeploy(t *testing.T) {
	h, hall, yard := pair(t)
	ctx, c := t.Context(), h.client
	hall.mu.Lock() // it answers nothing
	change, err := c.Deploy(ctx, function(t, "f", "1"), client.DeployOptions{})
	hall.mu.Unlock()
	if err != nil || change.Untried != "" || yard.has("f").Function.Revision != change.Revision {
		t.Errorf("Deploy = %+v, %v, want it tried by yard", change, err)
	}
	gone := make(chan struct{})
	hall.onTry = func() { // it goes away before it has said whether it can
		go func() { hall.leave(t, h); close(gone) }() // awaited below
		until(t, "hall is away", func() bool {
			d, err := h.fleet.Node(hall.id)
			return err == nil && !d.Connected
		})
	}
	change, err = c.Deploy(ctx, function(t, "f", "1b"), client.DeployOptions{})
	if err != nil || change.Untried != "" || yard.has("f").Function.Revision != change.Revision {
		t.Errorf("Deploy = %+v, %v, want it tried by yard, as hall goes away over it", change, err)
	}
	<-gone
	hall.onTry = nil
	hall.connect(t, h)
	hall.mu.Lock()
	yard.mu.Lock()
	change, err = c.Deploy(ctx, function(t, "f", "2"), client.DeployOptions{})
	yard.mu.Unlock()
	hall.mu.Unlock()
	if err != nil || !change.Changed || change.Untried != "hall, yard did not answer" {
		t.Errorf("Deploy = %+v, %v, want it recorded, and that nobody answered", change, err)
	}
	hall.leave(t, h)
	yard.leave(t, h)
	change, err = c.Deploy(ctx, function(t, "f", "3"), client.DeployOptions{})
	if err != nil || !change.Changed || change.Untried != "no node that it is placed on is connected" {
		t.Errorf("Deploy = %+v, %v, want it recorded, and that no node is there", change, err)
	}
}
