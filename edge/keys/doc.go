// Package keys makes and keeps the keys and certificates by which hub and node know
// each other: files in a data directory that only their owner may read, each replaced
// as a whole or not at all.
//
//   - [Open] keeps an ed25519 key: the hub's, which nodes pin, or a node's, which is its identity.
//   - An [Authority] is the hub's own certificate authority, and makes the certificate with
//     which the hub speaks TLS, anew before it runs out.
//   - [Read], [Write] and [Create] are for other secrets that are files.
//
// It leaves to others what is signed, and whom to believe.
package keys
