package broker

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sedge-iot/sedge/devices"
)

// TestPahoTalksAtEveryQoS has a client of the kind that programs use send and
// get back a thousand messages, with the agent between.
func TestPahoTalksAtEveryQoS(t *testing.T) {
	for qos := range byte(3) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			b := run(t, Config{Dir: t.TempDir()}, "ask/#")
			o := paho.NewClientOptions().AddBroker("tcp://" + b.Addr().String()).SetClientID("paho").SetCleanSession(false)
			c := paho.NewClient(o)
			await(t, c.Connect())
			defer c.Disconnect(0)
			answers := make(chan string, 1000)
			await(t, c.Subscribe("answer/#", qos, func(_ paho.Client, m paho.Message) { answers <- string(m.Payload()) }))
			const n = 1000
			go func() { // ends with the last Publish
				for i := range n {
					c.Publish("ask/1", qos, false, fmt.Sprint(i))
				}
			}()
			for i := range n {
				m := b.hears(t)
				if string(m.Payload) != fmt.Sprint(i) {
					t.Fatalf("heard %s, want %d", m.Payload, i)
				}
				b.Publish(devices.Publication{Topic: "answer/1", Payload: m.Payload, QoS: qos}, func(err error) {
					if err == nil && m.Ack != nil {
						m.Ack.Ack()
					}
				})
			}
			for i := range n {
				select {
				case got := <-answers:
					if got != fmt.Sprint(i) {
						t.Fatalf("got answer %s, want %d", got, i)
					}
				case <-time.After(patience):
					t.Fatalf("answer %d does not come", i)
				}
			}
		})
	}
}

func await(t *testing.T, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("paho: %v", token.Error())
	}
}

func TestMosquittosToolsTalk(t *testing.T) {
	if _, err := exec.LookPath("mosquitto_pub"); err != nil && testing.Short() {
		t.Skip("mosquitto's tools are not needed to test this emulated: ", err)
	}
	b := run(t, guarded(t), "#")
	for _, version := range []string{"31", "311", "5"} {
		host, port, _ := net.SplitHostPort(b.Addr().String())
		who := []string{"-h", host, "-p", port, "-V", "mqttv" + version, "-u", "app", "-P", "app's password"}
		for _, qos := range []string{"0", "1", "2"} {
			cmd := exec.Command("mosquitto_pub", append(who, "-q", qos, "-r", "-t", "home/lamp/set", "-m", "v"+version+" q"+qos)...)
			var errs strings.Builder
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if m := b.hears(t); m.Ack != nil {
				m.Ack.Ack()
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("mosquitto_pub at version %s, QoS %s: %v %s", version, qos, err, errs.String())
			}
			out, err := exec.Command("mosquitto_sub", append(who, "-q", qos, "-t", "home/+/set", "-C", "1", "-W", "5")...).Output()
			if want := "v" + version + " q" + qos + "\n"; err != nil || string(out) != want {
				t.Errorf("mosquitto_sub at version %s, QoS %s: %q %v, want %q", version, qos, out, err, want)
			}
		}
	}
}
