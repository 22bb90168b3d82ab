package hub_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// FuzzAPI sends any body to every verb that takes one: the answer is the
// verb's own or an error as the API writes it, and never the hub's fault.
func FuzzAPI(f *testing.F) {
	h := serve(f)
	h.deploy(f, "f", "1")
	verbs := []ask{
		{method: "PUT", path: "/v1/functions/f"}, {method: "PUT", path: "/v1/functions/f?dryRun=true"},
		{method: "POST", path: "/v1/functions/f/enable"}, {method: "POST", path: "/v1/functions/f/rollback"},
		{method: "POST", path: "/v1/functions/f/invoke"}, {method: "PUT", path: "/v1/functions/f/state/k"},
		{method: "POST", path: "/v1/dead/redrive"}, {method: "POST", path: "/v1/dead/discard"},
		{method: "GET", path: "/v1/functions/f/state"}, {method: "GET", path: "/v1/dead"},
		{method: "GET", path: "/v1/functions/f/revisions/1"}, {method: "DELETE", path: "/v1/functions/g"},
		{method: "POST", path: "/v1/upgrades"}, {method: "POST", path: "/v1/releases"},
	}
	one, err := json.Marshal(map[string]any{"function": function(f, "f", "2")})
	if err != nil {
		f.Fatal(err)
	}
	for i := range verbs {
		for _, body := range []string{
			"", "{}", "null", "[]", `"x"`, "{}{}", `{"to":"1"}`, `{"payload":"aGk="}`, `{"value":"1"}`, `{"value":"1","expires":"2100-01-01T00:00:00Z"}`,
			`{"all":true}`, `{"function":"f","ids":[1]}`, `{"ids":[9223372036854775808]}`, `{"manifest":"a: &a [*a]"}`,
			`{"manifest":{"apiVersion":"sedge.dev/v1"},"code":"1"}`, string(one), "last=1", "limit=x",
		} {
			f.Add(uint8(i), body, `"1"`)
		}
	}
	f.Fuzz(func(t *testing.T, verb uint8, body, tag string) {
		a := verbs[int(verb)%len(verbs)]
		a.body = body
		if a.method == "GET" {
			a.path, a.body = a.path+"?"+strings.ReplaceAll(strings.Map(printable, body), " ", "+"), ""
		}
		if _, err := url.Parse(a.path); err != nil {
			return
		}
		if tag = strings.Map(printable, tag); strings.TrimSpace(tag) != "" {
			a.header = map[string]string{"If-Match": tag}
		}
		resp, text := h.do(t, a)
		switch {
		case resp.StatusCode == http.StatusInternalServerError:
			t.Errorf("%s %s %q: the hub calls it its own fault", a.method, a.path, body)
		case resp.StatusCode >= 300:
			wantError(t, a.method+" "+a.path, resp, text, resp.StatusCode)
		case resp.StatusCode != http.StatusNoContent && !json.Valid(text):
			t.Errorf("%s %s %q: %d %q is no JSON", a.method, a.path, body, resp.StatusCode, text)
		}
	})
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '.'
	}
	return r
}
