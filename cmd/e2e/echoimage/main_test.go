package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// post returns what the echo answers to a payload, with one attribute.
func post(t *testing.T, payload string) (status int, body string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(payload))
	r.Header.Set("Ce-Id", "7")
	w := httptest.NewRecorder()
	echo(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestAnEchoAnswersAsThePayloadAsks(t *testing.T) {
	for _, c := range []struct {
		payload string
		status  int
		echoed  string
	}{
		{`{"on":true}`, 200, `{"on":true}`},
		{`{"status":404}`, 404, `{"status":404}`},
		{`{"status":503}`, 503, `{"status":503}`},
		{`{"status":7}`, 200, `{"status":7}`},
		{`21.5`, 200, `21.5`},
		{`not JSON`, 200, `"not JSON"`},
	} {
		status, body := post(t, c.payload)
		if want := `{"attributes":{"id":"7"},"payload":` + c.echoed + `}`; status != c.status || body != want {
			t.Errorf("the answer to %s is %d %s, want %d %s", c.payload, status, body, c.status, want)
		}
	}
}

func TestAnEchoSleepsAsLongAsThePayloadAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if status, _ := post(t, `{"sleep":"2s"}`); status != 200 || time.Since(start) != 2*time.Second {
			t.Errorf("answered %d after %v, want 200 after 2s", status, time.Since(start))
		}
	})
}
