// Package rollout decides how a function's new revision comes to the nodes: which
// have it by now, whether the next stage may begin, when it must wait, when it goes
// back. It is pure: no clock, no I/O, no chance; the same inputs give the same
// outputs, so that every hub that knows the same decides the same.
//
//	stages, err := rollout.Stages("1, 10%, 50%")           // and then all
//	r, err := rollout.Begin(ask, name, from, to, by, now)  // give it its ID, store it
//	r, changed := rollout.Step(r, nodes, now)              // whenever nodes report, and now and then
//	revision := rollout.Revisions(r)                       // which node is to run what
//
// A stage passes when its nodes show that the new revision does: see [Step]. What is
// wrong takes everybody back. What cannot be judged, because nodes are away or events
// are rare, waits, and pauses when the gate's patience ends: nothing is ever passed
// unseen but by an operator's word ([Promote]).
//
// Why it decides like this stands in RATIONALE.md. It leaves to the hub to know the nodes that the placement and the selector name, to
// store a rollout, and to feed nodes what [Revisions] says.
package rollout
