package main

import (
	"crypto/tls"
	"net"
	"testing"

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
