// Package store keeps what a node must not lose: its functions' definitions,
// the inbox of deliveries that wait, the outbox of publishes that were not
// confirmed, timers, dead letters, and the functions' state. It is one SQLite
// file in the node's data directory.
//
// It promises: a change is committed whole or not at all, in the order in which
// changes were handed in, and is on disk once its done was called; many changes
// share one fsync; an idle store writes nothing; a full or failing disk loses
// no change, it only makes them wait; a damaged file is set aside, what can be
// read of it is saved, and the store opens all the same.
//
// When a delivery is stored, retried or given up is the agent's to decide.
package store
