package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

func TestStepsStandBelowEachOther(t *testing.T) {
	var out bytes.Buffer
	trail := &trail{sh: &shell{out: &out, lookup: none}}
	at := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, s := range []edge.Step{
		{Time: at, Function: "night-light", What: edge.StepFailed, Topic: "zigbee2mqtt/hall_motion", Why: "threw", Attempt: 1},
		{Time: at, Function: "a", What: edge.StepDone, Topic: "ä", Why: "fine"},
		{Time: at, Function: "a", What: edge.StepDone, Topic: "ä"},
	} {
		if err := trail.print(s); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(out.String(), "\n")
	column := func(line, word string) int { return len([]rune(line[:strings.Index(line, word)])) }
	if a, b := column(lines[0], "zigbee"), column(lines[1], "ä"); a != b {
		t.Errorf("topics stand at %d and %d:\n%s", a, b, &out)
	}
	if a, b := column(lines[0], "attempt 1"), column(lines[1], "fine"); a != b {
		t.Errorf("reasons stand at %d and %d:\n%s", a, b, &out)
	}
	if strings.HasSuffix(lines[2], " ") {
		t.Errorf("%q ends in spaces", lines[2])
	}
}
