package sandboxtest

import (
	"testing"

	"github.com/sedge-iot/sedge/functions"
)

// Run runs the suite. Each test starts its functions in a sandbox that open
// returns; open ends it when its test ends.
func Run(t *testing.T, open func(t *testing.T) functions.Sandbox) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, functions.Sandbox)
	}{
		{"The handler is given the event and returns a value", testEcho},
		{"An event that is no JSON is text and bytes", testBinaryEvent},
		{"A payload that readers would not agree on is refused", testRefusedPayload},
		{"Effects are collected in order", testEffects},
		{"A handler that throws has no effects", testThrow},
		{"An immediate publish goes out though the handler throws", testPublishNow},
		{"What the agent refuses reaches the handler", testRefusal},
		{"State is read through what was written", testState},
		{"State is limited", testStateLimits},
		{"Timers are set and taken back", testTimers},
		{"Async handlers are waited for", testAsync},
		{"A promise that never settles fails", testUnsettled},
		{"Every invocation starts clean", testFresh},
		{"Env and secrets are given", testEnv},
		{"Logs have levels", testLogs},
		{"A flood of logs is cut short", testFlood},
		{"A flood of reads is cut short", testOpFlood},
		{"Code that does not load is unfit", testUnfit},
		{"An endless loop ends at its timeout", testTimeout},
		{"Hostile values fail or pass, and nothing else breaks", testHostileValues},
		{"Big payloads and results pass up to their limits", testBig},
		{"A memory bomb ends its runner and nothing else", testMemoryBomb},
		{"Deep recursion is caught", testRecursion},
		{"Nothing of the host can be reached", testNothingOfTheHost},
		{"A slow run does not hold up the others", testConcurrency},
		{"A thousand in a row and together", testThousand},
		{"Close ends every run once", testClose},
		{"A closed instance takes nothing", testClosed},
		{"Two functions do not share a runner", testApart},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}
