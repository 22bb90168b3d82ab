package node

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices/mqtt"
)

func TestWhatTheLinkSuffersIsCounted(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	o := Options{Name: "attic", DataDir: t.TempDir(), OpsListen: "127.0.0.1:0"}
	o.MQTT = MQTT{URL: "mqtt://" + ln.Addr().String(), KeepAlive: mqtt.DefaultKeepAlive}
	lg := testLog(t)
	n, _ := runOn(t, o, o.Dial(lg), lg)
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{0x30, 4, 0, 1, 'a', 'x'}); err != nil { // a PUBLISH before the CONNACK
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		_, text := get(t, n, "/metrics", "")
		if strings.Contains(text, "\nsedge_mqtt_malformed_total 1\n") {
			for _, want := range []string{"\nsedge_mqtt_truncated_total 0\n", "\nsedge_mqtt_reconnects_total 0\n"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in %s", want, text)
				}
			}
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("a malformed packet is not counted:\n%s", text)
		}
	}
}
