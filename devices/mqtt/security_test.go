package mqtt_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/devices/mqtttest"
)

func TestTLSWithClientCertificates(t *testing.T) {
	noLeftovers(t)
	authority, stranger := mqtttest.StartAuthority(t), mqtttest.StartAuthority(t)
	mine, err := authority.Issue("node")
	if err != nil {
		t.Fatal(err)
	}
	other, err := stranger.Issue("node")
	if err != nil {
		t.Fatal(err)
	}
	broker := mqtttest.Start(t, mqtttest.Options{TLS: authority, ClientCerts: true})

	n := start(t, mqtt.Config{URL: broker.URL(), CAFile: authority.CertFile(), CertFile: mine.CertFile, KeyFile: mine.KeyFile}, "a").ready()
	if err := n.publishes("a", "secret"); err != nil {
		t.Errorf("publish over TLS: %v", err)
	}
	n.hears("secret").Ack.Ack()
	n.stop()

	for name, tt := range map[string]struct {
		config mqtt.Config
		want   string
	}{
		"no trust in the broker":         {mqtt.Config{}, "unknown authority"},
		"trust in another authority":     {mqtt.Config{CAFile: stranger.CertFile(), CertFile: mine.CertFile, KeyFile: mine.KeyFile}, "unknown authority"},
		"no client certificate":          {mqtt.Config{CAFile: authority.CertFile()}, "tls: "},
		"certificate of someone unknown": {mqtt.Config{CAFile: authority.CertFile(), CertFile: other.CertFile, KeyFile: other.KeyFile}, "tls: "},
		"wrong name":                     {mqtt.Config{URL: strings.Replace(broker.URL(), "127.0.0.1", "localhost", 1), CAFile: authority.CertFile()}, "match localhost"},
	} {
		tt.config.ClientID = "refused"
		if tt.config.URL == "" {
			tt.config.URL = broker.URL()
		}
		n := start(t, tt.config)
		eventually(t, "the refusal is seen: "+name, func() bool { return n.Status().In.LastError != "" && n.Status().Out.LastError != "" })
		n.stop()
		s := n.Status()
		if !strings.Contains(s.In.LastError, tt.want) || s.In.Connected || s.In.Reconnects > 0 {
			t.Errorf("%s: %+v, want an error that says %q", name, s.In, tt.want)
		}
	}
}

func TestUserAndPassword(t *testing.T) {
	broker := mqtttest.Start(t, mqtttest.Options{Users: map[string]string{"node": "pass word\\"}})
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("pass word\\\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, mqtt.Config{URL: broker.URL(), Username: "node", PasswordFile: file}, "a").ready().stop()
	inURL := strings.Replace(broker.URL(), "://", "://node:pass%20word%5C@", 1)
	start(t, mqtt.Config{URL: inURL}, "a").ready().stop()

	for name, config := range map[string]mqtt.Config{
		"nobody":         {URL: broker.URL()},
		"wrong password": {URL: broker.URL(), Username: "node", Password: "pass"},
		"wrong user":     {URL: broker.URL(), Username: "other", PasswordFile: file},
	} {
		n := start(t, config)
		eventually(t, "the refusal is seen: "+name, func() bool { return n.Status().In.LastError != "" })
		n.stop()
		if got, want := n.Status().In.LastError, "not Authorized"; !strings.Contains(got, want) {
			t.Errorf("%s: %q, want an error that says %q", name, got, want)
		}
	}
}

func TestPasswordIsReadAnewAndNeverShown(t *testing.T) {
	const canary = "tweety"
	broker := mqtttest.Start(t, mqtttest.Options{Users: map[string]string{"node": canary}})
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	n := start(t, mqtt.Config{
		URL: broker.URL(), Username: "node", PasswordFile: file,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}, "a")
	eventually(t, "the refusal is seen", func() bool { return n.Status().In.LastError != "" })
	if err := os.WriteFile(file, []byte(canary), 0o644); err != nil {
		t.Fatal(err)
	}
	n.ready().stop()
	if !strings.Contains(log.String(), "open to every user") {
		t.Errorf("log %q, want a warning of the file's mode", log.String())
	}
	_, err := mqtt.New(mqtt.Config{URL: "mqtt://node:" + canary + "@host:port", ClientID: "+"})
	if text := err.Error() + log.String(); strings.Contains(text, canary) {
		t.Errorf("the password is shown in %q", text)
	}
}

func TestAKeyThatOthersCanReadIsWarnedOf(t *testing.T) {
	mine, err := mqtttest.StartAuthority(t).Issue("node")
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		if err := os.Chmod(mine.KeyFile, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		_, err := mqtt.New(mqtt.Config{
			URL: "mqtts://host", ClientID: "node", CertFile: mine.CertFile, KeyFile: mine.KeyFile,
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if got := strings.Contains(log.String(), "key file is open to every user"); err != nil || got != want {
			t.Errorf("mode %o: New = %v, warned %v, want %v", mode, err, got, want)
		}
	}
}

func TestConfigIsRefusedWithEveryFault(t *testing.T) {
	for _, tt := range []struct {
		config mqtt.Config
		want   []string
	}{
		{mqtt.Config{}, []string{"broker URL", "client id"}},
		{mqtt.Config{URL: "http://x", ClientID: "a/b"}, []string{"mqtts://", "client id"}},
		{mqtt.Config{URL: "mqtt://", ClientID: "a"}, []string{"want a host"}},
		{mqtt.Config{URL: "mqtt://h/path", ClientID: "a"}, []string{"no path"}},
		{mqtt.Config{URL: "mqtt://h", ClientID: "a", KeepAlive: 1500 * 1e6, MaxPacket: 1}, []string{"whole seconds", "at least 1024"}},
		{mqtt.Config{URL: "mqtt://h", ClientID: "a", CAFile: "x"}, []string{"want mqtts://"}},
		{mqtt.Config{URL: "mqtts://h", ClientID: "a", CAFile: "/none", PasswordFile: "/none"}, []string{"CA file", "password file"}},
		{mqtt.Config{URL: "mqtts://h", ClientID: "a", CertFile: "/none"}, []string{"client certificate"}},
		{mqtt.Config{URL: "mqtt://h", ClientID: "a", MaxBackoff: 1}, []string{"dialling again"}},
	} {
		_, err := mqtt.New(tt.config)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("New(%+v) = %v, want it to say %q", tt.config, err, want)
			}
		}
	}
}
