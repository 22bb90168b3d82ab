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
// confirmed, seen.go knows what comes twice, receipt.go
// acknowledges. worker.go starts and ends runners,
// timers.go and schedule.go keep what comes later, disk.go stops hearing when
// nothing can be stored, end.go brings everything to an end. RATIONALE.md says
// why it is so.
//
// On a node of a cluster the agent hears with two ears (ear.go): its own, and one
// for the functions that run an event once for the cluster, with which it hears only
// while it leads (cluster.go). Their deliveries run in shared lanes, of which nothing
// is ever stored: such a message is acknowledged when it is done or a dead letter.
//
// The agent knows no MQTT client, no sandbox and no engine: it is handed them.
package agent
