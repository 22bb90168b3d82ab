package hub_test

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

// operator makes an operator and returns his client and his token.
func (h *house) operator(t testing.TB, name string, role edge.Role, scope string) (*client.Client, string) {
	t.Helper()
	made, err := h.client.MakeOperator(t.Context(), edge.Operator{Name: name, Role: role, Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	return h.as(t, made.Text), made.Text
}

// bare is a route's path with an x for each name.
func bare(path string) string {
	for _, name := range []string{"{function}", "{revision}", "{key...}", "{node}", "{token}", "{operator}", "{version}", "{platform...}"} {
		path = strings.ReplaceAll(path, name, "x")
	}
	path = strings.ReplaceAll(path, "{profile...}", "goroutine")
	path = strings.ReplaceAll(path, "{step}", "pause")
	path = strings.ReplaceAll(path, "{upgrade}", "9")
	return strings.ReplaceAll(path, "{rollout}", "9")
}

func TestEachRouteIsForItsRoleAndThoseAbove(t *testing.T) {
	h := serve(t)
	roles := []edge.Role{"", edge.Viewer, edge.Deployer, edge.Admin}
	tokens := map[edge.Role]string{}
	for _, role := range roles[1:] {
		_, tokens[role] = h.operator(t, string(role), role, "")
	}
	for route, needs := range h.hub.Routes() {
		method, path, _ := strings.Cut(route, " ")
		if strings.HasSuffix(path, "pprof/profile") || strings.HasSuffix(path, "pprof/trace") {
			path += "?seconds=1"
		}
		for i, role := range roles {
			header := map[string]string{"Authorization": ""}
			if role != "" {
				header["Authorization"] = "Bearer " + tokens[role]
			}
			if i >= slices.Index(roles, needs) && strings.Contains(path, "?seconds") {
				continue // it would only take its time
			}
			resp, text := h.do(t, ask{method, bare(path), "", header})
			switch may := i >= slices.Index(roles, needs); {
			case may && (resp.StatusCode == 401 || resp.StatusCode == 403 && !strings.Contains(path, "/state")):
				t.Errorf("%s as %q: %d %s, want to be let in", route, role, resp.StatusCode, text)
			case !may && role == "":
				wantError(t, route+" without a token", resp, text, http.StatusUnauthorized)
			case !may:
				wantError(t, route+" as "+string(role), resp, text, http.StatusForbidden)
			}
		}
	}
}

func TestOnlyTheRolesThatAreWrittenDownChangeAnything(t *testing.T) {
	h := build(t, newNode(), t.TempDir())
	for route, role := range h.hub.Routes() {
		if looks := strings.HasPrefix(route, "GET "); !looks && role != edge.Deployer && role != edge.Admin {
			t.Errorf("%s is for %q", route, role)
		}
		for _, of := range []string{"/v1/tokens", "/v1/operators", "/v1/audit", "/v1/accept-epoch", "/debug/"} {
			if strings.Contains(route, of) && role != edge.Admin {
				t.Errorf("%s is for %q, want %s", route, role, edge.Admin)
			}
		}
	}
}

func TestAnOperatorWithAScopeReachesOnlyItsNodes(t *testing.T) {
	h := build(t, newNode(), t.TempDir()).listen(t)
	ctx := t.Context()
	east := h.settle(t, "east-1", map[string]string{"site": "east"}, newNode())
	west := h.settle(t, "west-1", map[string]string{"site": "west"}, newNode())
	c, _ := h.operator(t, "eve", edge.Deployer, "site=east")

	list, err := c.Nodes(ctx, "", "")
	if err != nil || len(list) != 1 || list[0].Name != "east-1" {
		t.Errorf("Nodes = %+v, %v, want east-1 alone", list, err)
	}
	for _, node := range []string{"west-1", west.id} {
		_, err = c.Node(ctx, node)
		wantCode(t, "Node", err, edge.NotFound)
		_, err = c.Diagnose(ctx, node)
		wantCode(t, "Diagnose", err, edge.NotFound)
		_, err = c.On(node).Dead(ctx, edge.Query{Last: 10})
		wantCode(t, "Dead", err, edge.NotFound)
		for _, err := range c.On(node).Logs(ctx, edge.Query{Last: -1}) {
			wantCode(t, "Logs", err, edge.NotFound)
		}
	}

	// What it deploys runs within its scope, whatever it asks for.
	for name, ask := range map[string]*edge.RolloutAsk{"plain": nil, "all": {}, "wide": {Selector: "site in (east, west)"}} {
		change, err := c.Deploy(ctx, function(t, name, "1"), client.DeployOptions{Rollout: ask})
		if err != nil || change.Spread.Placed != 1 {
			t.Errorf("Deploy(%s) = %+v, %v, want one node", name, change, err)
		}
		if east.has(name).Function.Code != "1" || west.has(name).Function.Code != "" {
			t.Errorf("%s: east has %+v, west has %+v", name, east.has(name), west.has(name))
		}
	}
	again, err := c.Deploy(ctx, function(t, "plain", "2"), client.DeployOptions{})
	if err != nil || again.Spread.Placed != 1 {
		t.Errorf("Deploy again = %+v, %v, want one node", again, err)
	}

	narrow := client.DeployOptions{Rollout: &edge.RolloutAsk{Selector: "room=none"}}
	if moved, err := c.Deploy(ctx, function(t, "plain", "2"), narrow); err != nil || moved.Spread.Placed != 0 {
		t.Errorf("Deploy elsewhere within its scope = %+v, %v, want no node", moved, err)
	}
	wider := client.DeployOptions{Rollout: &edge.RolloutAsk{}}
	if moved, err := c.Deploy(ctx, function(t, "plain", "2"), wider); err != nil || moved.Spread.Placed != 1 {
		t.Errorf("Deploy to all of its scope = %+v, %v, want one node", moved, err)
	}

	// What is on no node of it, it does not see, nor its rollouts.
	placed := client.DeployOptions{Rollout: &edge.RolloutAsk{Selector: "site=west", Stages: []edge.Stage{{Count: 1}}}}
	if _, err := h.client.Deploy(ctx, function(t, "theirs", "1"), placed); err != nil {
		t.Fatal(err)
	}
	all, err := c.Functions(ctx)
	if err != nil || slices.ContainsFunc(all, func(s edge.FunctionStatus) bool { return s.Name == "theirs" }) || len(all) != 3 {
		t.Errorf("Functions = %+v, %v, want its own three", all, err)
	}
	_, err = c.Function(ctx, "theirs")
	wantCode(t, "Function", err, edge.NotFound)
	_, err = c.History(ctx, "theirs")
	wantCode(t, "History", err, edge.NotFound)
	_, err = c.Revision(ctx, "theirs", "1")
	wantCode(t, "Revision", err, edge.NotFound)
	_, err = c.Invoke(ctx, "theirs", edge.Invoke{})
	wantCode(t, "Invoke", err, edge.NotFound)
	for _, err := range c.Logs(ctx, edge.Query{Function: "theirs"}) {
		wantCode(t, "Logs", err, edge.NotFound)
	}
	of, err := h.client.Rollouts(ctx, "", 0)
	if err != nil || len(of) != 1 {
		t.Fatalf("Rollouts = %+v, %v, want one", of, err)
	}
	if list, err := c.Rollouts(ctx, "", 0); err != nil || len(list) != 0 {
		t.Errorf("Rollouts = %+v, %v, want none", list, err)
	}
	_, err = c.Rollout(ctx, of[0].ID)
	wantCode(t, "Rollout", err, edge.NotFound)

	// What is on nodes beyond it, it can look at and not change.
	h.deploy(t, "ours", "1")
	until(t, "west has it", func() bool { return west.has("ours").Function.Code == "1" })
	_, err = c.Deploy(ctx, function(t, "ours", "2"), client.DeployOptions{})
	wantCode(t, "Deploy of what is on others", err, edge.Forbidden)
	_, err = c.Deploy(ctx, function(t, "ours", "2"), client.DeployOptions{Rollout: &edge.RolloutAsk{}})
	wantCode(t, "Deploy with a rollout", err, edge.Forbidden)
	_, err = c.Disable(ctx, "ours")
	wantCode(t, "Disable", err, edge.Forbidden)
	_, err = c.Rollback(ctx, "ours", "")
	wantCode(t, "Rollback", err, edge.Forbidden)
	_, err = c.Delete(ctx, "ours", client.DeleteOptions{Purge: true, Confirmed: true})
	wantCode(t, "Delete", err, edge.Forbidden)
	if west.has("ours").Function.Code != "1" || !west.has("ours").Enabled {
		t.Errorf("west has %+v, want it as it was", west.has("ours"))
	}

	// What was deleted, nobody knows any more whose it was.
	if _, err := h.client.Delete(ctx, "theirs", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = c.History(ctx, "theirs")
	wantCode(t, "History of what was deleted", err, edge.NotFound)
	_, err = c.Revision(ctx, "theirs", "1")
	wantCode(t, "Revision of what was deleted", err, edge.NotFound)
	if list, err := h.client.History(ctx, "theirs"); err != nil || len(list) != 2 {
		t.Errorf("History = %+v, %v, want it for who may see all", list, err)
	}
}

func TestATokenThatHasExpiredOrIsDeletedOpensNothing(t *testing.T) {
	h := serve(t)
	ctx := t.Context()
	c, _ := h.operator(t, "bob", edge.Viewer, "")
	if _, err := c.Functions(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.client.DeleteOperator(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	_, err := c.Functions(ctx)
	wantCode(t, "Functions of one who is gone", err, edge.Denied)
	wantCode(t, "DeleteOperator again", h.client.DeleteOperator(ctx, "bob"), edge.NotFound)

	soon := time.Now().Add(100 * time.Millisecond)
	made, err := h.client.MakeOperator(ctx, edge.Operator{Name: "carl", Role: edge.Viewer, Expires: soon})
	if err != nil {
		t.Fatal(err)
	}
	brief := h.as(t, made.Text)
	until(t, "the token expires", func() bool { _, err := brief.Functions(ctx); return err != nil })
	_, err = brief.Functions(ctx)
	if e := wantCode(t, "Functions with an expired token", err, edge.Denied); !strings.Contains(e.Message, "expired") {
		t.Errorf("it says %q, want that it has expired", e.Message)
	}
}

func TestAnOperatorThatIsNotRightIsRefused(t *testing.T) {
	h := serve(t)
	h.operator(t, "bob", edge.Viewer, "")
	for what, tt := range map[string]struct {
		o    edge.Operator
		want edge.Code
	}{
		"no name":      {edge.Operator{Role: edge.Viewer}, edge.Invalid},
		"owner":        {edge.Operator{Name: "owner", Role: edge.Viewer}, edge.Invalid},
		"node's name":  {edge.Operator{Name: "node/x", Role: edge.Viewer}, edge.Invalid},
		"no role":      {edge.Operator{Name: "x"}, edge.Invalid},
		"another role": {edge.Operator{Name: "x", Role: "root"}, edge.Invalid},
		"bad scope":    {edge.Operator{Name: "x", Role: edge.Viewer, Scope: "a=b=c,,"}, edge.Invalid},
		"past":         {edge.Operator{Name: "x", Role: edge.Viewer, Expires: time.Now().Add(-time.Hour)}, edge.Invalid},
		"there twice":  {edge.Operator{Name: "bob", Role: edge.Admin}, edge.Conflict},
	} {
		_, err := h.client.MakeOperator(t.Context(), tt.o)
		wantCode(t, what, err, tt.want)
	}
	list, err := h.client.Operators(t.Context())
	if err != nil || len(list) != 1 || list[0].Role != edge.Viewer {
		t.Errorf("Operators = %+v, %v, want bob alone, a viewer", list, err)
	}
}

func TestNoSecretIsToldTwiceOrLogged(t *testing.T) {
	h := serve(t)
	ctx := t.Context()
	_, secret := h.operator(t, "bob", edge.Admin, "")
	joins, err := h.client.MakeToken(ctx, edge.TokenAsk{TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	invitation, err := edge.ParseInvitation(joins.Text)
	if err != nil {
		t.Fatal(err)
	}
	h.do(t, ask{"GET", "/v1/functions", "", map[string]string{"Authorization": "Bearer " + secret + "x"}})
	var told strings.Builder
	for _, path := range []string{"/v1/tokens", "/v1/operators", "/v1/audit", "/v1/nodes", "/v1/nodes/here", "/v1/nodes/here/diagnostics", "/v1/version", "/metrics"} {
		resp, text := h.do(t, ask{"GET", path, "", nil})
		if resp.StatusCode != 200 {
			t.Fatalf("%s: %d %s", path, resp.StatusCode, text)
		}
		told.Write(text)
	}
	base64, err := json.Marshal(invitation.Secret)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"an operator's token": secret, "the owner's token": token, "a join token": joins.Text, "its secret": strings.Trim(string(base64), `"`)} {
		if strings.Contains(told.String(), text) {
			t.Errorf("an answer tells %s", what)
		}
		if strings.Contains(h.logs.String(), text) {
			t.Errorf("the log tells %s", what)
		}
	}
}

func TestAnAuditThatWasAlteredIsToldWithItsFirstWrongLine(t *testing.T) {
	dir := t.TempDir()
	h := build(t, newNode(), dir).open(t)
	for i := range 3 {
		h.deploy(t, "f", strconv.Itoa(i))
	}
	want := edge.AuditVerdict{Intact: true}
	if got, err := h.client.VerifyAudit(t.Context()); err != nil || got != want {
		t.Fatalf("VerifyAudit = %+v, %v, want %+v", got, err, want)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "hub.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE audit SET by = 'nobody' WHERE number = 2`); err != nil {
		t.Fatal(err)
	}
	want = edge.AuditVerdict{Broken: 2, Why: "entry 2 was altered, or what stood before it"}
	if got, err := h.client.VerifyAudit(t.Context()); err != nil || got != want {
		t.Errorf("VerifyAudit of an altered log = %+v, %v, want %+v", got, err, want)
	}
	bob, _ := h.operator(t, "bob", edge.Deployer, "")
	_, err = bob.VerifyAudit(t.Context())
	wantCode(t, "VerifyAudit by a deployer", err, edge.Forbidden)
}

func TestTheAuditSaysWhoDidWhatFromWhere(t *testing.T) {
	h := serve(t)
	ctx := t.Context()
	bob, _ := h.operator(t, "bob", edge.Admin, "")
	bob.User = "somebody else" // which only the owner may say to be
	if _, err := bob.Deploy(ctx, function(t, "f", "1"), client.DeployOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.client.Cordon(ctx, "here"); err != nil {
		t.Fatal(err)
	}
	list, err := bob.Audit(ctx, "", 0)
	if err != nil || len(list) < 3 {
		t.Fatalf("Audit = %+v, %v", list, err)
	}
	for i, want := range []edge.AuditEntry{
		{By: "ada", Action: "node.cordon", Object: "node/here"},
		{By: "bob", Action: "function.deploy", Object: "function/f"},
		{By: "ada", Action: "operator.make", Object: "operator/bob"},
	} {
		got := list[i]
		if got.By != want.By || got.Action != want.Action || got.Object != want.Object || got.Address != "127.0.0.1" || got.Hash == "" {
			t.Errorf("entry %d = %+v, want %+v, from 127.0.0.1", i, got, want)
		}
	}
	of, err := bob.Audit(ctx, "function/f", 0)
	if err != nil || len(of) != 1 || of[0] != list[1] {
		t.Errorf("Audit(function/f) = %+v, %v, want %+v", of, err, list[1])
	}
	older, err := bob.Audit(ctx, "", list[0].Number)
	if err != nil || len(older) == 0 || older[0] != list[1] {
		t.Errorf("Audit before %d = %+v, %v, want from %+v on", list[0].Number, older, err, list[1])
	}
	if err := h.ledger.VerifyAudit(ctx); err != nil {
		t.Errorf("VerifyAudit = %v", err)
	}
}

func TestASignatureThatNoNodeCouldBeToldIsRefused(t *testing.T) {
	h := serve(t)
	for _, signature := range []string{"two words", "a\nb", strings.Repeat("x", edge.MaxSignature+1)} {
		_, err := h.client.Deploy(t.Context(), function(t, "f", "1"), client.DeployOptions{Signature: signature})
		wantCode(t, "Deploy", err, edge.Invalid)
	}
	if _, err := h.client.Deploy(t.Context(), function(t, "f", "1"), client.DeployOptions{Signature: strings.Repeat("x", edge.MaxSignature)}); err != nil {
		t.Errorf("Deploy = %v", err)
	}
}
