// Package edge is the vocabulary between a node, its hub and the people who ask
// them: what a function does right now, why it did or did not run, what failed.
// The JSON of these types is the hub's HTTP API, version v1: fields are added,
// never renamed or reused.
//
// It is also what hub and node say to each other so that the node runs what the hub
// says: [Feed] and [Replica] are the two sides of that, [Set] is what they are about. They
// promise that a node ends up with its set whatever is lost, doubled or cut on
// the way, and that nothing a hub says, or somebody in its name, takes it anywhere that the rules
// of RATIONALE.md forbid. To carry the messages, and to see to it that they are the hub's
// and for this node, is left to package link; to store and run, to the agent.
//
// It does no I/O.
package edge
