// Package fleet is the live side of the hub: the nodes that are connected, what each
// is to run, and how it does.
//
// A [Fleet] admits nodes at [link.Path], brings each in step with what the ledger says, and
// steers rollouts by what nodes report. It asks nodes over their links ([Remote]), and
// tells how all are ([Fleet.Nodes], [Fleet.Spread]).
//
// It promises:
//
//   - What the ledger says reaches every connected node that is concerned: at once, and again
//     until the node has confirmed it. Nodes that run the same share one [edge.Set]; what
//     is told of it is encoded once.
//   - A node that is revoked, fenced or removed is out as soon as that is committed, and a
//     node that two machines claim to be is fenced.
//   - A cordoned node is left exactly as it is: nothing is put on it and nothing taken from it,
//     also across restarts of the hub, until the cordon is lifted.
//   - A node gets only the functions that are placed on it.
//   - Nobody waits for a slow node: what it does not take is dropped with its session.
//
// What is kept, and who may change it, it leaves to package ledger and to the API.
package fleet
