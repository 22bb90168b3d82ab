package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/sedge-iot/sedge/devices/mqtttest"
)

func TestALoadMeasuresItsEcho(t *testing.T) {
	broker := mqtttest.Start(t, mqtttest.Options{MaxInflight: -1})
	echo(t, broker.Addr())
	for _, c := range []struct {
		name string
		load Load
	}{
		{"paced", Load{QoS: 1, Rate: 200, Window: 100}},
		{"as fast as may be, QoS 1", Load{QoS: 1, Window: 16}},
		{"as fast as may be, QoS 0", Load{QoS: 0, Window: 16}},
	} {
		t.Run(c.name, func(t *testing.T) {
			load := c.load
			load.Broker, load.In, load.Out = broker.Addr(), "echo/in", "echo/out"
			load.Devices, load.Warm, load.For = 4, 50*time.Millisecond, 300*time.Millisecond
			r := result(t, load)
			if r.Answered == 0 || r.Lost != 0 || r.Answered != r.Sent {
				t.Errorf("sent %d, answered %d, lost %d, want all answered", r.Sent, r.Answered, r.Lost)
			}
			if r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.Max {
				t.Errorf("p50 %v, p99 %v, max %v, want them in this order", r.P50, r.P99, r.Max)
			}
			if want := float64(load.Rate); load.Rate > 0 && (r.Rate < want/2 || r.Rate > want*2) {
				t.Errorf("rate = %.0f/s, want about %.0f/s", r.Rate, want)
			}
		})
	}
}

func TestALoadWithoutAnAnswerSaysSo(t *testing.T) {
	broker := mqtttest.Start(t, mqtttest.Options{})
	load := Load{Broker: broker.Addr(), In: "deaf/in", Out: "deaf/out", Devices: 1, QoS: 1, Rate: 100, Window: 100, For: 50 * time.Millisecond}
	in, _ := json.Marshal(load)
	if err := runLoad(t.Context(), bytes.NewReader(in), new(bytes.Buffer)); err == nil {
		t.Error("runLoad = nil, want an error: nobody answered")
	}
}

// echo answers below echo/ until the test ends.
func echo(t *testing.T, broker string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := runEcho(ctx, broker); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(stop)
	answers := make(chan struct{}, 100)
	c, err := connect(broker, "test", func(c mqtt.Client) error {
		return wait(c.Subscribe("echo/out/ready", 0, func(mqtt.Client, mqtt.Message) { answers <- struct{}{} }))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(10)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(10 * time.Second); ; {
		c.Publish("echo/in/ready", 0, false, "")
		select {
		case <-answers:
			return
		case <-tick.C:
		case <-late:
			t.Fatal("the echo does not answer")
		}
	}
}

func result(t *testing.T, load Load) (r Result) {
	t.Helper()
	in, err := json.Marshal(load)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := runLoad(t.Context(), bytes.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAReportNamesTheBudgetsThatWereMissed(t *testing.T) {
	r := report(200*time.Microsecond, 20000)
	if page := string(r.markdown()); strings.Contains(page, "missed") || strings.Contains(page, "flat%") {
		t.Errorf("a report of kept budgets tells of missed ones:\n%s", page)
	}
	r = report(time.Millisecond, 9000)
	page := string(r.markdown())
	for _, want := range []string{
		"| event → publish, QoS 1, 1,000/s, p50, against the bare echo | ≤ 1.25× | 5.00× | **missed** |",
		"| sustained, QoS 1 in and out, 64 in flight, against the bare echo | ≥ 1.0× | 0.90× | **missed** |",
		"| QoS 1, 64 in flight | events/s | 10000 | 9000 | 0.90× | 27000 | 2.70× |",
		"flat%", // the profile
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the report lacks %q:\n%s", want, page)
		}
	}
}

// report makes a report in which sedge took so long and answered so many.
func report(took time.Duration, rate float64) *Report {
	r := &Report{
		Options:  options{rounds: 1, length: time.Second},
		Waking:   Waking{Took: []time.Duration{time.Millisecond}},
		Flash:    Flash{Counted: true},
		Binaries: []Binary{{"sedge-agent-linux-arm64", 1 << 20}},
		Profiles: map[string]string{outside: "flat%\n"},
	}
	for _, sc := range scenarios(r.Options) {
		r.Tuned = append(r.Tuned, Comparison{sc, map[string][]Result{
			bare:     {{P50: 200 * time.Microsecond, P99: time.Millisecond, Rate: 10000}},
			outside:  {{P50: took, P99: took, Rate: rate}},
			embedded: {{P50: took, P99: took, Rate: 3 * rate}},
		}})
	}
	r.Default = r.Tuned
	return r
}

func TestWhatIsWrittenToStorageIsCounted(t *testing.T) {
	before := written(os.Getpid())
	counts, err := countsWrites(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if grown := written(os.Getpid()) - before; counts != (grown >= 64<<10) {
		t.Errorf("counts writes: %v, but 64 KiB grew the count by %d", counts, grown)
	}
}
