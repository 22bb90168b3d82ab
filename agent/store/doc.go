// Package store keeps what a node must not lose in one SQLite file:
// definitions, the inbox, the outbox, state, timers and dead letters.
package store
