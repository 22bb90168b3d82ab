// Package member keeps a node in step with its hub.
//
// A [Home] is where the node keeps who it is and who its hub is; [Join] makes one with a
// join token. A [Member] dials the hub, has the agent take the steps that the hub tells,
// says how functions do, and answers what an operator asks.
//
// What it promises:
//
//   - Being cut off is a state and no error: Run goes on for ever, dials again with full
//     jitter, and what the node runs does not depend on it.
//   - A step that the hub tells is taken as a whole, together with its position, or not
//     at all; see [edge.Replica]. One that has begun is brought to an end though the
//     link breaks.
//   - The node's owner has the last word: nothing comes in while he holds it, or, if he
//     asks for signatures, without one of his operators' ([Owner]), not even to be tried.
//   - Each dial has a number that was on the disk before and is never used again, by
//     which the hub sees that a machine was copied.
//   - What goes over the link while nothing changes is less than 0.25 kbit/s.
//
// It leaves to others how functions run (the agent, by the interface [Agent]), what is said
// over the link (package edge) and how it is carried (package link).
package member
