package hub_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/installer/upgrade"
)

// signed returns a program as minisign signs it.
func signed(t *testing.T, program []byte, comment string) string {
	t.Helper()
	_, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := minisign.NewReader(bytes.NewReader(program))
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	return string(r.SignWithComments(private, comment, ""))
}

func TestAReleaseIsKeptAsItsSignatureSays(t *testing.T) {
	h, _, _ := pair(t)
	ctx, c := t.Context(), h.client
	program := bytes.Repeat([]byte("program"), 100_000)
	as := func(comment string) string { return signed(t, program, comment) }
	good := as(upgrade.Comment("sedge-agent", "v2.0.0", "linux/arm/6"))
	is, err := c.PushRelease(ctx, bytes.NewReader(program), good)
	if err != nil || is.Version != "v2.0.0" || is.Platform != "linux/arm/6" || is.Size != int64(len(program)) || len(is.Digest) != 64 {
		t.Fatalf("PushRelease = %+v, %v", is, err)
	}
	if again, err := c.PushRelease(ctx, bytes.NewReader(program), good); err != nil || again != is {
		t.Errorf("the same once more = %+v, %v", again, err)
	}
	for _, tt := range []struct {
		name, signature string
		program         []byte
		code            edge.Code
		why             string
	}{
		{"unsigned", "", program, edge.Invalid, "signature: "},
		{"signed as another program", as("sedge-hub v2.0.0 linux/arm/6"), program, edge.Invalid, "sedge-hub"},
		{"signed as no version", as("sedge-agent 2 linux/arm/6"), program, edge.Invalid, "trusted comment"},
		{"signed as something", as("my program"), program, edge.Invalid, "trusted comment"},
		{"no signature", strings.Repeat("x", 2000), program, edge.Invalid, "signature: "},
		{"nothing", as("sedge-agent v2.0.1 linux/arm/6"), nil, edge.Invalid, "empty"},
		{"another one of that version", good, []byte("other"), edge.Conflict, "another"},
	} {
		_, err := c.PushRelease(ctx, bytes.NewReader(tt.program), tt.signature)
		wantCode(t, tt.name, err, tt.code)
		if err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.why)
		}
	}
	endless := io.LimitReader(zeros{}, edge.MaxRelease+1)
	_, err = c.PushRelease(ctx, endless, as(upgrade.Comment("sedge-agent", "v2.0.1", "linux/arm/6")))
	wantCode(t, "one that is too large", err, edge.TooLarge)
	if list, err := c.Releases(ctx); err != nil || len(list) != 1 || list[0] != is {
		t.Errorf("Releases = %+v, %v, want only the first", list, err)
	}

	wantCode(t, "RemoveRelease of what is not there", c.RemoveRelease(ctx, "v2.0.0", "linux/arm/7"), edge.NotFound)
	if err := c.RemoveRelease(ctx, "v2.0.0", "linux/arm/6"); err != nil {
		t.Error(err)
	}
	if list, err := c.Releases(ctx); err != nil || len(list) != 0 {
		t.Errorf("Releases = %+v, %v, want none", list, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestAnUpgradeIsBegunAndSteered(t *testing.T) {
	h, _, _ := pair(t)
	ctx, c := t.Context(), h.client
	program := []byte("program")
	for _, version := range []string{"v2.0.0", "v2.1.0"} {
		if _, err := c.PushRelease(ctx, bytes.NewReader(program), signed(t, program, upgrade.Comment("sedge-agent", version, "linux/arm64"))); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.Upgrade(ctx, edge.UpgradeAsk{Version: "v3.0.0"})
	wantCode(t, "to a version that is not there", err, edge.NotFound)
	for name, ask := range map[string]edge.UpgradeAsk{
		"selector": {Version: "v2.0.0", Selector: "a b"},
		"stages":   {Version: "v2.0.0", Stages: []edge.Stage{{Count: 5}, {Count: 2}}},
		"bake":     {Version: "v2.0.0", Bake: -time.Second},
	} {
		_, err := c.Upgrade(ctx, ask)
		wantCode(t, name, err, edge.Invalid)
	}
	u, err := c.Upgrade(ctx, edge.UpgradeAsk{Version: "v2.0.0", Stages: []edge.Stage{{Count: 1}}, Selector: "room=hall"})
	if err != nil || u.ID != 1 || u.State != edge.Rolling || len(u.Stages) != 2 || u.Selector != "room=hall" {
		t.Fatalf("Upgrade = %+v, %v", u, err)
	}
	_, err = c.Upgrade(ctx, edge.UpgradeAsk{Version: "v2.1.0"})
	wantCode(t, "a second one", err, edge.Conflict)
	wantCode(t, "RemoveRelease while it is needed", c.RemoveRelease(ctx, "v2.0.0", "linux/arm64"), edge.Conflict)
	for _, tt := range []struct {
		step  string
		state edge.RolloutState
		stage int
	}{{"pause", edge.Halted, 0}, {"resume", edge.Rolling, 0}, {"promote", edge.Rolling, 1}, {"abort", edge.Aborted, 1}} {
		got, err := c.SteerUpgrade(ctx, 1, tt.step)
		if err != nil || got.State != tt.state || got.Stage != tt.stage {
			t.Errorf("%s = %s in stage %d, %v; want %s in %d", tt.step, got.State, got.Stage, err, tt.state, tt.stage)
		}
	}
	_, err = c.SteerUpgrade(ctx, 1, "resume")
	wantCode(t, "resume what is over", err, edge.Conflict)
	_, err = c.SteerUpgrade(ctx, 1, "stop")
	wantCode(t, "a step that there is not", err, edge.NotFound)
	_, err = c.SteerUpgrade(ctx, 2, "abort")
	wantCode(t, "one that there is not", err, edge.NotFound)
	if list, err := c.Upgrades(ctx); err != nil || len(list) != 1 || list[0].State != edge.Aborted || list[0].By != "ada" {
		t.Errorf("Upgrades = %+v, %v", list, err)
	}
	log, err := c.Audit(ctx, "upgrade/1", 0)
	var actions []string
	for _, e := range log {
		actions = append(actions, e.Action)
	}
	if want := "[upgrade.abort upgrade.stage upgrade.stage upgrade.pause upgrade.begin]"; err != nil || fmt.Sprint(actions) != want {
		t.Errorf("the audit has %v (%v), want %s", actions, err, want)
	}
}
