package main

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/devices/broker"
	"github.com/sedge-iot/sedge/devices/mqtttest"
)

func TestTheBrokerSpeaksNoTLSBefore12(t *testing.T) {
	pair, err := mqtttest.StartAuthority(t).Issue("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := upOptions{brokerCert: pair.CertFile, brokerKey: pair.KeyFile}.brokerTLS()
	if err != nil {
		t.Fatal(err)
	}
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		near, far := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- tls.Server(far, cfg).Handshake(); far.Close() }() // awaited below
		client := tls.Client(near, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version})
		if err := client.Handshake(); (err == nil) != ok {
			t.Errorf("%s: %v, want ok %v", tls.VersionName(version), err, ok)
		}
		near.Close()
		if err := <-served; (err == nil) != ok {
			t.Errorf("%s: the broker says %v, want ok %v", tls.VersionName(version), err, ok)
		}
	}
}

// hello connects to the broker at addr under the client id lamp, and waits until
// that is granted.
func hello(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	connect := []byte{0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 4, 'l', 'a', 'm', 'p'}
	if _, err := conn.Write(connect); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Fatalf("no CONNACK: %v", err)
	}
}

func TestWhatTheBrokerHasToSayIsTold(t *testing.T) {
	lg := slog.New(slog.NewTextHandler(t.Output(), nil))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Listener: ln, Log: lg})
	if err != nil {
		t.Fatal(err)
	}
	o := node.Options{Name: "attic", DataDir: t.TempDir(), OpsListen: "127.0.0.1:0"}
	n, err := node.Open(o, func(*store.Store) (node.Carrier, error) { return carried(b), nil }, lg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }() // awaited below
	tells := func(path string, wants ...string) {
		t.Helper()
		res, err := http.Get("http://" + n.OpsAddr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		for _, want := range wants {
			if err != nil || res.StatusCode != http.StatusOK || !strings.Contains("\n"+string(text), "\n"+want) {
				t.Errorf("%s: %d %v, want %q in it:\n%s", path, res.StatusCode, err, want, text)
			}
		}
	}
	tells("/readyz?verbose", "[+]broker ok\n")
	const dials = 20
	for range dials {
		hello(t, b.Addr().String())
	}
	tells("/readyz?verbose", "[!]broker ok, but: ", "readyz check passed\n")
	tells("/metrics", "sedge_broker_takeovers_total 19\n", "sedge_broker_faults 1\n")
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
