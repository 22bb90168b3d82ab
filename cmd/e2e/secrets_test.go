package e2e

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
)

// canary is a secret that is looked for where it must not be.
const canary = "canary-7c1e-of-the-mine"

const miner = `
apiVersion: sedge.dev/v1
kind: Function
metadata: {name: miner}
spec:
  runtime: javascript
  source:
    inline: |
      export default (event, sedge) => {
        const secret = sedge.secret("lamp");
        sedge.log("has", secret.length);
        sedge.state.incr("runs");
        if (event.payload === "fail") throw new Error("as asked");
        sedge.after("10ms", "fail");
        return secret.length;
      }
  triggers: [{mqtt: {topic: mine}}]
  output: {topic: found}
  secrets: [lamp]
  delivery: {retry: {attempts: 1}}
  scaling: {min: 1}
`

func TestASecretIsToldNowhere(t *testing.T) {
	if testing.Short() {
		t.Skip("starts programs")
	}
	n := newNode(t, append(embeds(freeAddress(t)), "--log-level", "debug"))
	n.start(t)
	n.deploy(t, miner)
	c := n.client(t)
	secret := filepath.Join(n.dir, "secrets", "lamp")
	status := func() edge.FunctionStatus {
		f, err := c.Function(t.Context(), "miner")
		if err != nil {
			t.Fatal(err)
		}
		return f.Status
	}
	phase := func(want edge.Phase, reason string) {
		t.Helper()
		await(t, "miner to be "+string(want), func() error {
			if s := status(); s.Phase != want || !strings.Contains(s.Reason, reason) {
				return fmt.Errorf("it is %s: %s", s.Phase, s.Reason)
			}
			return nil
		})
	}
	// What a refused file holds is not told either.
	for _, refused := range []struct {
		text string
		mode os.FileMode
		why  string
	}{{canary, 0o644, "open to everyone"}, {strings.Repeat(canary, 10_000), 0o600, "larger than"}, {canary + "\xff", 0o600, "no text"}} {
		write(t, secret, refused.text, refused.mode)
		phase(edge.Starting, refused.why)
	}
	write(t, secret, canary, 0o600)
	phase(edge.Running, "")
	in, err := c.Invoke(t.Context(), "miner", edge.Invoke{Topic: "mine", Payload: []byte("1")})
	if err != nil || in.Returned != fmt.Sprint(len(canary)) {
		t.Fatalf("invoked: %+v, %v; want the length of the secret", in, err)
	}
	if in, err = c.Invoke(t.Context(), "miner", edge.Invoke{Topic: "mine", Payload: []byte(`"fail"`)}); err != nil || in.Error == nil {
		t.Fatalf("invoked: %+v, %v; want a failure", in, err)
	}

	await(t, "a dead letter", func() error {
		if s := status(); s.Dead != 1 {
			return fmt.Errorf("there are %d", s.Dead)
		}
		return nil
	})

	runner := status().Instance[0].Name
	for _, pid := range []string{runner, fmt.Sprint(n.cmd.Process.Pid)} {
		for _, name := range []string{"environ", "cmdline"} {
			untold(t, "/proc/"+pid+"/"+name, read(t, "/proc/"+pid+"/"+name))
		}
	}
	for _, path := range []string{
		"/v1/functions", "/v1/functions/miner", "/v1/functions/miner/history", "/v1/functions/miner/state",
		"/v1/logs", "/v1/events", "/v1/dead", "/v1/version", "/readyz?verbose", "/metrics",
		"/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline",
	} {
		untold(t, path, n.ask(t, path))
	}
	n.stop(t)
	// The log, and all that is kept, but for the folder of secrets itself.
	err = filepath.WalkDir(n.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "secrets":
			return fs.SkipDir
		case d.Type().IsRegular():
			untold(t, path, read(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// untold fails the test if the canary is in text.
func untold(t *testing.T, where string, text []byte) {
	t.Helper()
	if bytes.Contains(text, []byte(canary)) {
		t.Errorf("the secret is told by %s", where)
	}
}

// write puts a file in place as a whole.
func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	next := filepath.Join(t.TempDir(), "next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(next, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// ask returns what the node's API answers to a GET, which must succeed.
func (n *node) ask(t *testing.T, path string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.api+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.token(t))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || len(text) == 0 {
		t.Fatalf("%s: %s, %v, %d bytes; want an answer", path, res.Status, err, len(text))
	}
	return text
}
