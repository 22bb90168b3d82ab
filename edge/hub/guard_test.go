package hub_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/hub"
)

// An ask is a request as a test has it.
type ask struct {
	method, path, body string
	header             map[string]string // Host too; "" takes a header away
}

// do sends the request, with the token unless told otherwise.
func (h *house) do(t testing.TB, a ask) (*http.Response, []byte) {
	t.Helper()
	var body io.Reader
	if a.body != "" {
		body = strings.NewReader(a.body)
	}
	req, err := http.NewRequestWithContext(t.Context(), a.method, h.url+a.path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for name, value := range a.header {
		switch {
		case name == "Host":
			req.Host = strings.ReplaceAll(value, "PORT", req.URL.Port())
		case value == "":
			req.Header.Del(name)
		default:
			req.Header.Set(name, strings.ReplaceAll(value, "PORT", req.URL.Port()))
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, text
}

// wantError fails unless the answer is the API's error of that status.
func wantError(t testing.TB, what string, resp *http.Response, text []byte, status int) edge.Error {
	t.Helper()
	var told struct {
		Error edge.Error `json:"error"`
	}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&told); err != nil {
		t.Fatalf("%s: %d %.200s is no error of the API: %v", what, resp.StatusCode, text, err)
	}
	if resp.StatusCode != status || told.Error.Code.Status() != status || told.Error.Message == "" {
		t.Errorf("%s: status %d, %.200s, want %d", what, resp.StatusCode, text, status)
	}
	return told.Error
}

func TestWhatIsNotMeantForTheAPIIsRefused(t *testing.T) {
	h := serve(t)
	h.deploy(t, "f", "1")
	large := `{"payload":"` + strings.Repeat("A", 2<<20) + `"}`
	get := func(header ...string) ask {
		return ask{"GET", "/v1/functions", "", map[string]string{header[0]: header[1]}}
	}
	for name, tt := range map[string]struct {
		ask  ask
		want int
	}{
		"no token":            {get("Authorization", ""), 401},
		"wrong token":         {get("Authorization", "Bearer the-token-of-these-tests."), 401},
		"token cut short":     {get("Authorization", "Bearer the-token-of-these-test"), 401},
		"empty token":         {get("Authorization", "Bearer "), 401},
		"wrong scheme":        {get("Authorization", "Basic "+token), 401},
		"no token for pprof":  {ask{"GET", "/debug/pprof/", "", map[string]string{"Authorization": ""}}, 401},
		"rebound name":        {get("Host", "evil.example:PORT"), 421},
		"name that begins so": {get("Host", "127.0.0.1.evil.example:PORT"), 421},
		"another port":        {get("Host", "127.0.0.1:1"), 421},
		"no port":             {get("Host", "localhost"), 421},
		"another address":     {get("Host", "192.168.0.1:PORT"), 421},
		"rebound, no token":   {ask{"GET", "/healthz", "", map[string]string{"Host": "evil.example:PORT", "Authorization": ""}}, 421},
		"page elsewhere":      {get("Origin", "http://evil.example"), 421},
		"page of a file":      {get("Origin", "null"), 421},
		"page on other port":  {get("Origin", "http://127.0.0.1:1"), 421},
		"page over TLS":       {get("Origin", "https://127.0.0.1:PORT"), 421},
		"unknown method":      {ask{"BREW", "/v1/functions", "", nil}, 405},
		"method not had here": {ask{"DELETE", "/v1/functions", "", nil}, 405},
		"options":             {ask{"OPTIONS", "/v1/functions/f", "", nil}, 405},
		"unknown path":        {ask{"GET", "/v1/functionz", "", nil}, 404},
		"path with a slash":   {ask{"GET", "/v1/functions/", "", nil}, 404},
		"path with two":       {ask{"GET", "/v1//functions", "", nil}, 404},
		"path with dots":      {ask{"GET", "/v1/x/../functions", "", nil}, 404},
		"the root":            {ask{"GET", "/", "", nil}, 404},
		"large body":          {ask{"POST", "/v1/functions/f/invoke", large, nil}, 413},
		"unknown field":       {ask{"POST", "/v1/functions/f/invoke", `{"pay":"x"}`, nil}, 400},
		"trailing data":       {ask{"POST", "/v1/functions/f/invoke", `{} {}`, nil}, 400},
		"trailing brace":      {ask{"POST", "/v1/functions/f/invoke", `{}}`, nil}, 400},
		"no JSON":             {ask{"POST", "/v1/functions/f/invoke", `payload=x`, nil}, 400},
		"a million brackets":  {ask{"POST", "/v1/functions/f/invoke", strings.Repeat("[", 1e6), nil}, 400},
		"unknown parameter":   {ask{"GET", "/v1/logs?fn=f", "", nil}, 400},
		"parameter twice":     {ask{"GET", "/v1/logs?last=1&last=2", "", nil}, 400},
		"broken query":        {ask{"GET", "/v1/logs?last=%zz", "", nil}, 400},
		"no such function":    {ask{"GET", "/v1/logs?function=g", "", nil}, 404},
		"long user":           {ask{"POST", "/v1/functions/f/enable", "", map[string]string{"Sedge-User": strings.Repeat("u", 65)}}, 400},
		"two tags":            {ask{"POST", "/v1/functions/f/enable", "", map[string]string{"If-Match": `"a", "b"`}}, 400},
		"other revision":      {ask{"POST", "/v1/functions/f/enable", "", map[string]string{"If-Match": `"a"`}}, 409},
		"a node that breaks":  {ask{"POST", "/v1/functions/f/invoke", `{"payload":"YnJlYWs="}`, nil}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			resp, text := h.do(t, tt.ask)
			wantError(t, name, resp, text, tt.want)
			if strings.Contains(string(text), "secret") {
				t.Errorf("the answer tells what it should not: %s", text)
			}
			if allow := resp.Header.Get("Allow"); tt.want == 405 && !strings.Contains(allow, "GET, HEAD") {
				t.Errorf("Allow is %q, want GET and HEAD in it", allow)
			}
			if tt.want == 401 && resp.Header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
		})
	}
}

func TestAHubThatIsReachedFromElsewhereAnswersToItsNames(t *testing.T) {
	h := build(t, newNode(), t.TempDir(), func(c *hub.Config) { c.Hosts = []string{"hub.example"} }).listen(t)
	for name, tt := range map[string]struct {
		header map[string]string
		want   int // of an error; 0 for none
	}{
		"its name":           {map[string]string{"Host": "hub.example:PORT"}, 0},
		"in capitals":        {map[string]string{"Host": "HUB.Example:PORT"}, 0},
		"behind a proxy":     {map[string]string{"Host": "hub.example"}, 0},
		"its address":        {map[string]string{"Host": "127.0.0.1:PORT"}, 0},
		"its own page":       {map[string]string{"Host": "hub.example:PORT", "Origin": "http://hub.example:PORT"}, 0},
		"rebound name":       {map[string]string{"Host": "evil.example:PORT"}, 421},
		"name that ends so":  {map[string]string{"Host": "evil-hub.example:PORT"}, 421},
		"page elsewhere":     {map[string]string{"Host": "hub.example:PORT", "Origin": "https://evil.example"}, 421},
		"page of another":    {map[string]string{"Host": "hub.example:PORT", "Origin": "http://127.0.0.1:PORT"}, 421},
		"no token":           {map[string]string{"Host": "hub.example:PORT", "Authorization": ""}, 401},
		"rebound, no token":  {map[string]string{"Host": "evil.example:PORT", "Authorization": ""}, 421},
		"a name of no host":  {map[string]string{"Host": "@:PORT"}, 421},
		"the address of one": {map[string]string{"Host": "hub.example.:PORT"}, 421},
	} {
		t.Run(name, func(t *testing.T) {
			resp, text := h.do(t, ask{"GET", "/v1/functions", "", tt.header})
			if tt.want > 0 {
				wantError(t, name, resp, text, tt.want)
			} else if resp.StatusCode != http.StatusOK {
				t.Errorf("status %d, %.200s, want an answer", resp.StatusCode, text)
			}
		})
	}
}

func TestWhatTakesMuchAwayIsDoneOnceThatIsConfirmed(t *testing.T) {
	h, hall, yard := pair(t)
	ctx := t.Context()
	room := &edge.RolloutAsk{Selector: "room=yard"}
	for _, name := range []string{"bell", "lamp", "pump"} {
		if _, err := h.client.Deploy(ctx, function(t, name, "1"), client.DeployOptions{Rollout: room}); err != nil {
			t.Fatal(err)
		}
	}
	at := func() edge.Position {
		at, err := h.ledger.Position(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}

	// Labels that take all.
	before, none := at(), "none"
	_, err := h.client.Label(ctx, "yard", map[string]*string{"room": &none}, false)
	if e := wantCode(t, "Label", err, edge.Unconfirmed); !strings.Contains(e.Message, "this takes 3 of 3 functions from node yard") || !strings.Contains(e.Hint, "confirmed=true") {
		t.Errorf("Label = %+v, want what goes and what to do", e)
	}
	if at() != before || yard.has("lamp").Function.Code != "1" {
		t.Error("it was done though nobody confirmed it")
	}
	if _, err := h.client.Label(ctx, "yard", map[string]*string{"room": &none}, true); err != nil {
		t.Fatal(err)
	}
	until(t, "yard has lost all", func() bool { return yard.has("lamp").Function.Code == "" })
	back := "yard"
	if _, err := h.client.Label(ctx, "yard", map[string]*string{"room": &back}, false); err != nil {
		t.Fatal(err)
	}
	until(t, "yard has all again", func() bool { return yard.has("pump").Function.Code == "1" })

	// One function after the other, of which another node has none.
	h.deploy(t, "everywhere", "1")
	for _, name := range []string{"bell", "lamp"} {
		if _, err := h.client.Delete(ctx, name, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = h.client.Delete(ctx, "pump", client.DeleteOptions{})
	if e := wantCode(t, "Delete", err, edge.Unconfirmed); !strings.Contains(e.Message, "this takes 3 of 4 functions from node yard") {
		t.Errorf("Delete = %+v, want what goes", e)
	}
	if _, err := h.client.Delete(ctx, "pump", client.DeleteOptions{Confirmed: true}); err != nil {
		t.Fatal(err)
	}
	until(t, "yard has lost it", func() bool { return yard.has("pump").Function.Code == "" })
	if _, err := h.client.Delete(ctx, "everywhere", client.DeleteOptions{}); err != nil || hall.has("everywhere").Function.Code != "" {
		t.Errorf("Delete of the only one that is left = %v", err)
	}
}

func TestNodesFollowToAnotherEpochOnceOneIsGivenUp(t *testing.T) {
	h, hall, _ := pair(t)
	h.deploy(t, "lamp", "1")
	before, err := h.ledger.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after, err := h.client.AcceptEpoch(t.Context())
	if err != nil || after.Epoch == before.Epoch {
		t.Fatalf("AcceptEpoch = %+v, %v, want another epoch than %+v", after, err, before)
	}
	until(t, "hall has followed", func() bool {
		n, err := h.fleet.Node(hall.id)
		return err == nil && n.At.Epoch == after.Epoch
	})
	if hall.has("lamp").Function.Code != "1" {
		t.Error("hall has lost what it is to run")
	}
}

func TestWhatIsMeantForTheAPIPasses(t *testing.T) {
	h := serve(t)
	for name, a := range map[string]ask{
		"address":       {"GET", "/v1/functions", "", nil},
		"localhost":     {"GET", "/v1/functions", "", map[string]string{"Host": "LocalHost:PORT"}},
		"v6":            {"GET", "/v1/functions", "", map[string]string{"Host": "[::1]:PORT"}},
		"own page":      {"GET", "/v1/functions", "", map[string]string{"Origin": "http://127.0.0.1:PORT"}},
		"scheme's case": {"GET", "/v1/functions", "", map[string]string{"Authorization": "bearer " + token}},
		"head":          {"HEAD", "/v1/functions", "", nil},
		"head of logs":  {"HEAD", "/v1/logs?follow=true", "", nil},
		"health":        {"GET", "/healthz", "", map[string]string{"Authorization": ""}},
		"life":          {"GET", "/livez", "", map[string]string{"Authorization": ""}},
		"readiness":     {"GET", "/readyz", "", map[string]string{"Authorization": ""}},
		"metrics":       {"GET", "/metrics", "", map[string]string{"Authorization": ""}},
		"profiles":      {"GET", "/debug/pprof/", "", nil},
		"a profile":     {"GET", "/debug/pprof/goroutine?debug=1", "", nil},
	} {
		if resp, text := h.do(t, a); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s, want 200", name, resp.StatusCode, text)
		}
	}
}

func TestAStateThatIsNotRightIsRefused(t *testing.T) {
	h := serve(t)
	h.deploy(t, "f", "1")
	const path = "/v1/functions/f/state/k"
	if resp, text := h.do(t, ask{"PUT", path, `{"value":"1"}`, nil}); resp.StatusCode != 200 {
		t.Fatalf("put: %d %s", resp.StatusCode, text)
	}
	value := func(n int) string { return `{"value":"\"` + strings.Repeat("v", n-2) + `\""}` }
	for name, tt := range map[string]struct {
		ask  ask
		want int
	}{
		"long key":          {ask{"PUT", "/v1/functions/f/state/" + strings.Repeat("k", 513), `{"value":"1"}`, nil}, 400},
		"empty key":         {ask{"PUT", "/v1/functions/f/state/", `{"value":"1"}`, nil}, 400},
		"key of no text":    {ask{"PUT", "/v1/functions/f/state/%FF", `{"value":"1"}`, nil}, 400},
		"key with NUL":      {ask{"PUT", "/v1/functions/f/state/a%00b", `{"value":"1"}`, nil}, 400},
		"value no JSON":     {ask{"PUT", path, `{"value":"on"}`, nil}, 400},
		"no value":          {ask{"PUT", path, `{}`, nil}, 400},
		"large value":       {ask{"PUT", path, value(64<<10 + 1), nil}, 413},
		"other namespace":   {ask{"PUT", "/v1/functions/..%2Fg/state/k", `{"value":"1"}`, nil}, 403},
		"name of none":      {ask{"GET", "/v1/functions/F/state", "", nil}, 403},
		"no such function":  {ask{"PUT", "/v1/functions/g/state/k", `{"value":"1"}`, nil}, 404},
		"no such key":       {ask{"GET", "/v1/functions/f/state/none", "", nil}, 404},
		"quota":             {ask{"PUT", path, value(64 << 10), nil}, 507},
		"tag of no version": {ask{"PUT", path, `{"value":"2"}`, map[string]string{"If-Match": `"abc"`}}, 409},
		"tag of another":    {ask{"PUT", path, `{"value":"2"}`, map[string]string{"If-Match": `"77"`}}, 409},
		"tag unquoted":      {ask{"PUT", path, `{"value":"2"}`, map[string]string{"If-Match": `1`}}, 400},
		"is there already":  {ask{"PUT", path, `{"value":"2"}`, map[string]string{"If-None-Match": `*`}}, 409},
		"both conditions":   {ask{"PUT", path, `{"value":"2"}`, map[string]string{"If-None-Match": `*`, "If-Match": `"1"`}}, 400},
		"delete of another": {ask{"DELETE", path, "", map[string]string{"If-Match": `"77"`}}, 409},
	} {
		h.quota = 1 << 10
		t.Run(name, func(t *testing.T) {
			resp, text := h.do(t, tt.ask)
			wantError(t, name, resp, text, tt.want)
		})
	}
	resp, text := h.do(t, ask{"GET", path, "", nil})
	if tag := resp.Header.Get("ETag"); tag != `"1"` || !strings.Contains(string(text), `"value":"1"`) {
		t.Errorf("after all that: tag %s, %s, want what was put first", tag, text)
	}
}

func TestAManifestThatIsNotRightIsRefusedWithAllItsFaults(t *testing.T) {
	h := serve(t)
	yaml := strings.Replace(manifest, "NAME", "f", 1)
	put := func(v map[string]any) ask {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return ask{"PUT", "/v1/functions/f", string(body), nil}
	}
	f := function(t, "f", "1")
	forged := f
	forged.Code = "2"
	for name, a := range map[string]ask{
		"nothing":         put(map[string]any{}),
		"both":            put(map[string]any{"function": f, "manifest": yaml}),
		"no code":         put(map[string]any{"manifest": yaml}),
		"another name":    put(map[string]any{"manifest": strings.Replace(yaml, "name: f", "name: g", 1), "code": "1"}),
		"forged revision": put(map[string]any{"function": forged}),
		"a number":        put(map[string]any{"manifest": 7, "code": "1"}),
		"null":            {"PUT", "/v1/functions/f", "null", nil},
		"nested unknown":  {"PUT", "/v1/functions/f", `{"function":{"manifest":{"spec":{"hostNetwork":true}}}}`, nil},
	} {
		resp, text := h.do(t, a)
		wantError(t, name, resp, text, 400)
	}
	bad := strings.NewReplacer("runtime: javascript", "runtime: cobol", "a/{device}", "a/#/b").Replace(yaml)
	resp, text := h.do(t, put(map[string]any{"manifest": bad, "code": "1"}))
	if e := wantError(t, "two faults", resp, text, 400); len(e.Faults) != 2 || e.Faults[0].Line != 5 {
		t.Errorf("faults: %+v, want two with their lines", e.Faults)
	}
	if len(h.defined) != 0 {
		t.Errorf("the node has %v, want nothing", h.defined)
	}
	if resp, text := h.do(t, put(map[string]any{"manifest": yaml, "code": "1"})); resp.StatusCode != 200 {
		t.Errorf("YAML: %d %s", resp.StatusCode, text)
	}
	if resp, text := h.do(t, put(map[string]any{"manifest": f.Manifest, "code": "1"})); !strings.Contains(string(text), `"changed":false`) {
		t.Errorf("the same as JSON: %d %s, want no change", resp.StatusCode, text)
	}
	before := h.has("f").Function.Revision
	resp, text = h.do(t, put(map[string]any{"manifest": bad, "code": "1"}))
	wantError(t, "an update with faults", resp, text, 400)
	if on := h.has("f").Function.Revision; on != before {
		t.Errorf("the node has revision %s after a refused update, want %s", on, before)
	}
}

// raw sends text as it is and returns the connection and what comes.
func (h *house) raw(t testing.TB, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, strings.ReplaceAll(text, "HOST", h.addr)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func TestABodyThatNeverEndsIsNotWaitedFor(t *testing.T) {
	h := build(t, newNode(), t.TempDir())
	h.hub.SetBodyTime(50 * time.Millisecond)
	h.open(t)
	h.deploy(t, "f", "1")
	const auth = "Host: HOST\r\nAuthorization: Bearer " + token + "\r\n"
	for name, text := range map[string]string{
		"a body that stops": "POST /v1/functions/f/invoke HTTP/1.1\r\n" + auth + "Content-Length: 100\r\n\r\n{",
		"chunks that stop":  "POST /v1/functions/f/invoke HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"one for a look":    "GET /v1/functions HTTP/1.1\r\n" + auth + "Content-Length: 100\r\n\r\n{",
		"one for a stream":  "GET /v1/logs?follow=true HTTP/1.1\r\n" + auth + "Content-Length: 100\r\n\r\n{",
	} {
		_, in := h.raw(t, text)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, _ := io.ReadAll(resp.Body) // what there is
		wantError(t, name, resp, body, 408)
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("%s: the connection is still open: %v", name, err)
		}
	}
	// Where the body is not even looked at, the connection ends all the same.
	_, in := h.raw(t, "POST /healthz HTTP/1.1\r\nHost: HOST\r\nContent-Length: 100\r\n\r\n{")
	if _, err := io.Copy(io.Discard, in); err != nil {
		t.Errorf("connection with an unread body: %v, want its end", err)
	}
}

func TestChunksWithoutEndAreCutAtTheLimit(t *testing.T) {
	h := serve(t)
	h.deploy(t, "f", "1")
	conn, in := h.raw(t, "POST /v1/functions/f/invoke HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer "+token+"\r\nTransfer-Encoding: chunked\r\n\r\n")
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat("A", 64<<10))
	sent := 0
	for ; sent < 64<<20; sent += 64 << 10 {
		if _, err := io.WriteString(conn, chunk); err != nil {
			break // it was cut, as it should be
		}
	}
	if sent > 16<<20 {
		t.Errorf("the hub took %d MiB", sent>>20)
	}
	if resp, err := http.ReadResponse(in, nil); err == nil { // else the connection was reset before the answer was read
		body, _ := io.ReadAll(resp.Body) // what there is
		wantError(t, "chunks", resp, body, 413)
	}
}

func TestReadinessListsWhatIsNot(t *testing.T) {
	h := serve(t)
	resp, text := h.do(t, ask{"GET", "/readyz?verbose", "", nil})
	if want := "[+]broker ok\n[+]store ok\n[+]fleet ok\nreadyz check passed\n"; resp.StatusCode != 200 || string(text) != want {
		t.Errorf("readyz: %d %q, want %q", resp.StatusCode, text, want)
	}
	h.mu.Lock()
	h.checks[1].Why = "was salvaged"
	h.mu.Unlock()
	resp, text = h.do(t, ask{"GET", "/readyz?verbose", "", nil})
	if want := "[+]broker ok\n[!]store ok, but: was salvaged\n[+]fleet ok\nreadyz check passed\n"; resp.StatusCode != 200 || string(text) != want {
		t.Errorf("readyz: %d %q, want %q", resp.StatusCode, text, want)
	}
	h.mu.Lock()
	h.checks[0] = edge.Check{Name: "broker", Why: "connection refused"}
	h.mu.Unlock()
	resp, text = h.do(t, ask{"GET", "/readyz", "", nil})
	if want := "[-]broker failed: connection refused\n[!]store ok, but: was salvaged\n[+]fleet ok\nreadyz check failed\n"; resp.StatusCode != 503 || string(text) != want {
		t.Errorf("readyz: %d %q, want %q", resp.StatusCode, text, want)
	}
	if e := wantCode(t, "Ready", h.client.Ready(t.Context()), edge.Unavailable); !strings.Contains(e.Message, "connection refused") {
		t.Errorf("Ready says %q, want the reason", e.Message)
	}
}
