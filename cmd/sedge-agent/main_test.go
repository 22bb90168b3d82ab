package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/devices/broker"
	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/installer/upgrade"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == node.RunnerCommand { // the agent starts its own file
		main()
		return
	}
	os.Exit(m.Run())
}

func TestItRunsWhatItsStoreHolds(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a runner")
	}
	lg := slog.New(slog.NewTextHandler(t.Output(), nil))
	data := t.TempDir()
	put(t, lg, data, `
apiVersion: sedge.dev/v1
kind: Function
metadata: {name: echo}
spec:
  runtime: javascript
  source: {inline: "export default (event) => event.payload + 1"}
  triggers: [{mqtt: {topic: in}}]
  output: {topic: out}
`)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Listener: ln, Log: lg})
	if err != nil {
		t.Fatal(err)
	}
	begin(t, func(ctx context.Context) error { return b.Run(ctx, func(devices.Message) {}) })
	url := "mqtt://" + b.Addr().String()
	begin(t, func(ctx context.Context) error {
		return run(ctx, []string{"--data-dir", data, "--mqtt", url, "--http-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"}, upgrade.Enter(upgrade.Place{Dir: data}))
	})

	c, err := mqtt.New(mqtt.Config{URL: url, ClientID: "test", Logger: lg})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1)
	c.Subscribe([]string{"out"})
	begin(t, func(ctx context.Context) error {
		return c.Run(ctx, func(m devices.Message) {
			if m.Ack != nil {
				m.Ack.Ack()
			}
			select {
			case heard <- string(m.Payload):
			default: // an answer to another try
			}
		})
	})

	again := time.NewTicker(100 * time.Millisecond) // until the agent is there to hear it
	defer again.Stop()
	for deadline := time.After(20 * time.Second); ; {
		select {
		case got := <-heard:
			if got != "42" {
				t.Errorf("function answered %q, want 42", got)
			}
			return
		case <-again.C:
			c.Publish(devices.Publication{Topic: "in", Payload: []byte("41"), QoS: 1}, func(error) {})
		case <-deadline:
			t.Fatal("no function answered within 20 s")
		}
	}
}

func TestItSaysWhatIsMissing(t *testing.T) {
	for want, args := range map[string][]string{
		"--mqtt is missing":           nil,
		"unknown flag: --bogus":       {"--bogus"},
		`does not take "up"`:          {"up"},
		"want mqtt://host:port":       {"--mqtt", "http://localhost"},
		`--log-level "loud"`:          {"--mqtt", "mqtt://localhost", "--log-level", "loud"},
		"read config: open /nowhere:": {"--config", "/nowhere"},
	} {
		err := run(t.Context(), append(args, "--data-dir", t.TempDir(), "--http-listen", "off", "--ops-listen", "off"), upgrade.Enter(upgrade.Place{}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("run %q = %v, want it to say %q", args, err, want)
		}
	}
}

// put stores a function as if a hub had sent it.
func put(t *testing.T, lg *slog.Logger, dir, manifest string) {
	t.Helper()
	m, err := functions.Parse("test", []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	f, err := functions.New(m, "")
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(dir, lg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- st.Run(ctx) }() // awaited below
	if err := st.Define(store.Definitions{Put: []store.Function{{Definition: edge.Definition{Function: f, Enabled: true}}}}); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// begin runs part until the test ends; it must end without an error.
func begin(t *testing.T, part func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }() // awaited by the cleanup
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("a part ended with %v, want nil", err)
		}
	})
}
