package devices

import (
	"strings"
	"testing"
)

func TestExpandTopicFillsInTheCaptures(t *testing.T) {
	captures := []Capture{{"device", "hall_lamp"}, {"rest", "a/b"}, {"none", ""}, {"bad", "a+b"}}
	tests := []struct{ template, want, fault string }{
		{"zigbee2mqtt/{device}/set", "zigbee2mqtt/hall_lamp/set", ""},
		{"x/{device}_2/{rest}", "x/hall_lamp_2/a/b", ""},
		{"plain", "plain", ""},
		{"{device}{none}", "hall_lamp", ""},
		{"{none}", "", "is empty"},
		{"{who}", "", "nothing is captured as {who}"},
		{"{bad}", "", "wildcard"},
		{"a/+", "", "wildcard"},
		{"{device", "", "{ without }"},
		{"device}", "", "} without {"},
		{"a}{device}", "", "} without {"},
	}
	for _, tt := range tests {
		got, err := ExpandTopic(tt.template, captures)
		if got != tt.want || (err != nil) != (tt.fault != "") {
			t.Errorf("ExpandTopic(%q) = %q, %v, want %q", tt.template, got, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("ExpandTopic(%q) = %v, want it to say %q", tt.template, err, tt.fault)
		}
	}
}
