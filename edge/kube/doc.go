// Package kube is the one part that speaks to a Kubernetes API server.
//
// [Open] finds the server and returns a [Client]. A [Kind] names a kind of
// objects and the Go type that they are read into; [Kind.In] gives those of one
// namespace, to be read, made, changed, deleted and watched. The types here,
// [Pod] before all, have the fields that sedge writes or reads and no others:
// what is kept of a watched object is no more than that.
//
// An [Election] lets one of several processes lead, and keeps for its leaders what they
// share.
//
// Every request but a watch ends within [RequestTimeout]. A connection that has
// gone silent is noticed by HTTP/2's pings. Whether an error means that the server
// could not be asked at all is told by [Away].
package kube
