// Package agent is the event path of a node: it hears messages, matches them
// to functions, runs those in their sandboxes, carries out what they ask for,
// and acknowledges.
//
// The unit of work is the delivery: one event for one function. Deliveries of
// one device run one after another, in their lane; different lanes run at the
// same time. A message is acknowledged when each of its deliveries is done or
// stored, whichever comes first: what succeeds at once and changes no state is
// never written to the disk, and what must wait is safe there before the
// broker may forget it.
//
// The path, file by file: hear.go takes a message apart, gate.go decides
// whether a function is to run, function.go and delivery.go line deliveries up,
// pump.go starts attempts, attempt.go is one attempt, effects.go carries out what
// a successful one asked for, fail.go decides what follows a failed one, hold.go
// stores what has waited too long, outbox.go repeats publishes that were not
// confirmed, seen.go knows what comes twice. worker.go starts and ends runners,
// timers.go and schedule.go keep what comes later, disk.go stops hearing when
// nothing can be stored, end.go brings everything to an end. RATIONALE.md says
// why it is so.
//
// The agent knows no MQTT client, no sandbox and no engine: it is handed them.
package agent
