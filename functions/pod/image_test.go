package pod

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
)

// serve returns the instance of a container that answers by h.
func serve(t *testing.T, h http.HandlerFunc) (*server, *httptest.Server) {
	t.Helper()
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	s, err := New(Config{Client: newAPI(t).client(t), Node: "node1", Secret: make([]byte, SecretSize)})
	if err != nil {
		t.Fatal(err)
	}
	v := newServer(s, &record{pod: &kube.Pod{}, used: true}, "web", web.URL+"/")
	s.work(v.supervise)
	t.Cleanup(func() { v.Close() })
	return v, web
}

func TestAContainerIsSentACloudEvent(t *testing.T) {
	var got http.Header
	var body string
	v, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r.Header.Clone(), r.Method+" "+r.URL.Path+" "+string(b)
	})
	out := make(outcomes, 1)
	v.Invoke(functions.Invocation{ID: "i", Attempt: 2, Timeout: patience, Event: devices.Event{
		ID: "ev-1", Source: devices.MQTT, Topic: "küche/a lamp", Payload: []byte(`{"on":true}`), Time: time.Date(2026, 11, 25, 7, 0, 0, 5e6, time.UTC),
	}}, out)
	if got := out.wait(t); got != "" {
		t.Errorf("an empty answer came as %q", got)
	}
	if body != `POST / {"on":true}` {
		t.Errorf("it was sent %q", body)
	}
	for name, want := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": "ev-1", "Ce-Source": "sedge:mqtt", "Ce-Type": "dev.sedge.mqtt", "Ce-Attempt": "2",
		"Ce-Subject": "k%C3%BCche/a%20lamp", "Ce-Time": "2026-11-25T07:00:00.005Z", "Content-Type": "application/json",
	} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
	for payload, want := range map[string]string{"ON": "text/plain; charset=utf-8", "\xff": "application/octet-stream", "1": "application/json"} {
		if got := contentType([]byte(payload)); got != want {
			t.Errorf("%q goes as %s, want %s", payload, got, want)
		}
	}
}

func TestAnswersAreSorted(t *testing.T) {
	v, web := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		code, text, _ := strings.Cut(string(b), " ")
		switch code {
		case "hang":
			<-r.Context().Done()
		case "cut":
			panic(http.ErrAbortHandler)
		case "big":
			io.WriteString(w, `"`+strings.Repeat("a", functions.MaxResult)+`"`)
		case "302":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		default:
			status := 0
			for _, c := range code {
				status = status*10 + int(c-'0')
			}
			w.WriteHeader(status)
			io.WriteString(w, text)
		}
	})
	send := func(payload string, timeout time.Duration) string {
		out := make(outcomes, 1)
		v.Invoke(functions.Invocation{Attempt: 1, Timeout: timeout, Event: devices.Event{ID: "e", Source: devices.MQTT, Payload: []byte(payload)}}, out)
		return out.wait(t)
	}
	for payload, want := range map[string]string{
		`200 {"a": 1}`:          `{"a": 1}`,
		`201 plain "text"`:      `"plain \"text\""`,
		`204`:                   ``,
		`200`:                   ``,
		"200 \xff\xfe":          `result.invalid: the answer is neither JSON nor text`,
		`big`:                   `result.invalid: the answer is over 1048576 bytes`,
		`302`:                   `result.invalid: the container answered 302: redirects are not followed`,
		`400 no field a` + "\n": `payload.invalid: the container answered 400: no field a`,
		`404`:                   `payload.invalid: the container answered 404`,
		`408`:                   `function.error: the container answered 408`,
		`429 slow down`:         `function.error: the container answered 429: slow down`,
		`500 broken`:            `function.error: the container answered 500: broken`,
		`503`:                   `function.error: the container answered 503`,
	} {
		if got := send(payload, patience); got != want {
			t.Errorf("%q came as %q, want %q", payload, got, want)
		}
	}
	if got := send("hang", 50*time.Millisecond); got != "function.timeout: handler did not end within 50ms" {
		t.Errorf("one that hangs: %s", got)
	}
	if got := send("cut", patience); !strings.HasPrefix(got, "function.error: the container does not answer: ") {
		t.Errorf("one that is cut off: %s", got)
	}
	web.Close()
	if got := send("200", patience); !strings.HasPrefix(got, "function.error: the container does not answer: ") {
		t.Errorf("with nobody there: %s", got)
	}
}

func TestClosingInterruptsWhatIsUnderWay(t *testing.T) {
	arrived := make(chan struct{})
	v, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	run := begin(v)
	<-arrived
	v.Close()
	if got := run.wait(t); got != "runner.closed: its runner was closed" {
		t.Errorf("got %s", got)
	}
	if got := begin(v).wait(t); got != "runner.closed: its runner was closed" {
		t.Errorf("after the end: %s", got)
	}
	select {
	case <-v.Ended():
	default:
		t.Error("closed, but not ended")
	}
}
