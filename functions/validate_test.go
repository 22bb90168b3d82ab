package functions

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/devices"
)

func TestWhatIsTooMuchIsRefused(t *testing.T) {
	many := map[string]string{}
	for n := range maxEntries + 1 {
		many[fmt.Sprintf("N%d", n)] = "x"
	}
	long := strings.Repeat("x", devices.MaxTopic+1)
	for field, change := range map[string]func(*Spec){
		"spec.env":                    func(s *Spec) { s.Env = many },
		"spec.env ":                   func(s *Spec) { s.Env = map[string]string{"A": strings.Repeat("x", maxEnvBytes)} },
		"spec.placement.nodes":        func(s *Spec) { s.Placement.Nodes = many },
		"spec.secrets":                func(s *Spec) { s.Secrets = make([]string, maxEntries+1) },
		"spec.permissions.publish":    func(s *Spec) { s.Permissions.Publish = make([]string, maxEntries+1) },
		"spec.triggers":               func(s *Spec) { s.Triggers = make([]Trigger, MaxTriggers+1) },
		"spec.triggers[0].mqtt.topic": func(s *Spec) { s.Triggers[0].MQTT.Topic = long },
		"spec.triggers[0].mqtt.when":  func(s *Spec) { s.Triggers[0].MQTT.When = strings.Repeat(" ", MaxExpression) + "true" },
		"spec.output.topic":           func(s *Spec) { s.Output = &Output{Topic: long} },
		"spec.placement.nodes.site":   func(s *Spec) { s.Placement.Nodes = map[string]string{"site": strings.Repeat("x", 64)} },
		"spec.env." + long[:129]:      func(s *Spec) { s.Env = map[string]string{long[:129]: "x"} },
		"spec.source.path":            func(s *Spec) { s.Source.Path = strings.Repeat("x", 256) },
	} {
		m := mustParse(t, manifest)
		change(&m.Spec)
		faults, _ := errors.AsType[Faults](Validate(m))
		if len(faults) != 1 || faults[0].Field != strings.TrimSpace(field) {
			t.Errorf("%s: faults %v, want one", field, faults)
		}
	}
}

func TestOnlyTheFirstFaultsAreTold(t *testing.T) {
	var text strings.Builder
	for n := range 3 * maxFaults {
		fmt.Fprintf(&text, "field%d: x\n", n)
	}
	_, err := Parse("function.yaml", []byte(text.String()))
	faults, _ := errors.AsType[Faults](err)
	if len(faults) != maxFaults+1 || faults[0].Line != 1 || !strings.Contains(err.Error(), "more faults") {
		t.Errorf("%d faults are told, want %d and a line about the others", len(faults), maxFaults)
	}
}

func TestNearestIsWhatWasProbablyMeant(t *testing.T) {
	fields := []string{"triggers", "timeout", "topic", "every"}
	for name, want := range map[string]string{
		"trigger": "triggers", "tirggers": "triggers", "Timeout": "timeout", "timout": "timeout", "tpoic": "topic",
		"": "", "x": "", "cron": "", strings.Repeat("x", 1000): "",
	} {
		if got := nearest(name, fields); got != want {
			t.Errorf("nearest(%.20q) = %q, want %q", name, got, want)
		}
	}
}
