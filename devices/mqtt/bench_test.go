package mqtt_test

import (
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/devices/mqtttest"
)

// BenchmarkEcho sends messages through mosquitto to an echo and back, QoS 1 all
// the way: once the echo is bare paho, once this package. The other end is the
// same for both.
func BenchmarkEcho(b *testing.B) {
	broker := mqtttest.Start(b, mqtttest.Options{NoDelay: true, MaxInflight: -1, Config: "log_type none"})
	quiet := slog.New(slog.DiscardHandler)
	far := start(b, mqtt.Config{URL: broker.URL(), ClientID: "far", Logger: quiet}, "out").ready()
	for _, inFlight := range []int{1, 64} {
		name := map[int]string{1: "one", 64: "64 in flight"}[inFlight]
		b.Run("paho/"+name, func(b *testing.B) {
			echoPaho(b, broker.Addr())
			pingPong(b, far, inFlight)
		})
		b.Run("client/"+name, func(b *testing.B) {
			echoClient(b, mqtt.Config{URL: broker.URL(), ClientID: "echo", Logger: quiet})
			pingPong(b, far, inFlight)
		})
	}
}

// echoPaho answers as a careful program on paho alone does: two connections, no
// waiting in the handler, and no acknowledgement before the answer is confirmed.
func echoPaho(b *testing.B, address string) {
	client := func(id string) paho.Client {
		c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID(id).SetAutoAckDisabled(true))
		await(b, "connect "+id, c.Connect())
		b.Cleanup(func() { c.Disconnect(100) })
		return c
	}
	type answer struct {
		token paho.Token
		to    paho.Message
	}
	heard, sent := make(chan paho.Message, 1024), make(chan answer, 1024)
	in, out := client("echo"), client("echo-out")
	go func() {
		for m := range heard {
			sent <- answer{out.Publish("out", 1, false, m.Payload()), m}
		}
		close(sent)
	}()
	go func() {
		for a := range sent {
			a.token.Wait()
			a.to.Ack()
		}
	}()
	b.Cleanup(func() { close(heard) })
	await(b, "subscribe", in.Subscribe("in", 1, func(_ paho.Client, m paho.Message) { heard <- m }))
}

func echoClient(b *testing.B, config mqtt.Config) {
	c, err := mqtt.New(config)
	if err != nil {
		b.Fatal(err)
	}
	run(b, c, func(m devices.Message) {
		c.Publish(devices.Publication{Topic: "out", Payload: m.Payload, QoS: 1}, func(err error) {
			if err == nil {
				m.Ack.Ack()
			}
		})
	})
	c.Subscribe([]string{"in"})
	eventually(b, "the echo is ready", func() bool { s := c.Status(); return s.Connected() && s.Live })
}

// pingPong keeps inFlight messages under way and reports how long each took.
func pingPong(b *testing.B, far *node, inFlight int) {
	sent := make(chan time.Time, inFlight)
	took := make([]time.Duration, 0, 1<<16)
	send := func() {
		sent <- time.Now()
		far.Publish(devices.Publication{Topic: "in", Payload: []byte(`{"occupancy":true,"illuminance":4}`), QoS: 1}, func(err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	b.ResetTimer()
	before := processorTime()
	left := b.N
	for range min(inFlight, left) {
		send()
	}
	for range b.N {
		m := <-far.heard
		took = append(took, time.Since(<-sent))
		m.Ack.Ack()
		if left--; left >= inFlight {
			send()
		}
	}
	b.StopTimer()
	b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// processorTime returns what this process, both ends included, has used.
func processorTime() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
