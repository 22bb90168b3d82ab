// Package edge is the vocabulary between a node, its hub and the people who ask
// them: what a function does right now, why it did or did not run, what failed.
// The JSON of these types is the hub's HTTP API, version v1: fields are added,
// never renamed or reused. It does no I/O.
package edge
