// Package keeper is the first process of a runner pod, and what the agent has to
// know of it.
//
// A keeper holds the pod's private key; the runner that executes foreign code never
// does. It keeps one runner started ahead, takes the connection of its agent, and
// carries bytes between the two. When the agent lets go, every process of the pod is
// killed and a fresh runner started, so nothing of one load remains for the next.
// When the runner ends by itself, the keeper says why on stderr and ends with its
// status: the kubelet sees it, and starts the container again.
//
// Both ends of the connection prove an ed25519 key that the other one knows
// beforehand; there is no authority, and no clock is asked. [Server] and [Client]
// are the two ends.
package keeper
