package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// running has a hub run with the file of settings until the returned function ends it.
func running(t *testing.T, config string) (end func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"--config", config}) }() // awaited by end
	return func() {
		t.Helper()
		stop()
		if err := <-done; err != nil {
			t.Errorf("the hub ended with: %v", err)
		}
	}
}

// answer waits for a page of the hub whose data is in dir.
func answer(t *testing.T, address, dir, path string) string {
	t.Helper()
	roots := x509.NewCertPool()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	c := http.Client{Transport: transport, Timeout: time.Second}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); ; {
		ca, err := os.ReadFile(filepath.Join(dir, caFile))
		token, failed := os.ReadFile(filepath.Join(dir, tokenFile))
		if err == nil && failed == nil && roots.AppendCertsFromPEM(ca) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
			if resp, err := c.Do(req); err == nil {
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s does not answer within 20 s", path)
		}
	}
}

func TestAHubWhoseSettingsBreakRunsOnWithTheLastGoodOnesAndSaysSo(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.Addr().String()
	probe.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "hub.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := fmt.Sprintf("listen: %s\ndata-dir: %s\n", address, dir)
	t.Setenv("SEDGE_DATA_DIR", dir) // where the copy is looked for when the file does not say

	write(good)
	end := running(t, file)
	if got := answer(t, address, dir, "/readyz?verbose"); strings.Contains(got, "broken") {
		t.Errorf("with good settings it says %s", got)
	}
	if got := answer(t, address, dir, "/metrics"); !strings.Contains(got, "sedge_config_fault 0") {
		t.Errorf("with good settings the metrics lack sedge_config_fault 0:\n%s", got)
	}
	end()

	write("listne: " + address)
	end = running(t, file)
	defer end()
	if got := answer(t, address, dir, "/readyz?verbose"); !strings.Contains(got, "hub.yaml is broken") || !strings.Contains(got, `"listne"`) {
		t.Errorf("with broken settings it says %s, want which and why", got)
	}
	if got := answer(t, address, dir, "/metrics"); !strings.Contains(got, "sedge_config_fault 1") {
		t.Errorf("with broken settings the metrics lack sedge_config_fault 1:\n%s", got)
	}
}
