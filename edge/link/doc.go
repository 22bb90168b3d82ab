// Package link carries messages between a node and its hub: one websocket that the
// node dials, and in it a session that is sealed from end to end.
//
// A node has a [Dialer], a hub a [Gate]; both end up with a [Conn]. What goes over it
// is opaque here: bytes of at most [edge.MaxMessage], in order, each once.
//
// What a link promises, with any number of proxies in between that open TLS or not:
//
//   - The node says who it is, and gives a join secret away, only to the hub whose key it
//     has pinned, and only after that has signed the node's challenge.
//   - Whatever is lost, doubled, swapped, replayed, forged, cut, or of another node or
//     session cannot be opened. It ends the session, and nothing of it is handed on.
//   - A side that has opened nothing for 2.5 times [edge.BeatTime] ends the session, so
//     a line that is dead without saying so is noticed.
//   - Nothing that comes from outside is without a limit in bytes and time.
//
// It leaves to others what is said, when to say something so that there is no
// silence, who is admitted, when to dial ([Backoff] says how long to wait), and where keys
// are kept (package keys).
package link
