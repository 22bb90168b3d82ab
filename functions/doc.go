// Package functions is the vocabulary of what runs: manifests, triggers,
// revisions, limits, and the contract between an agent and the sandboxes that
// run functions for it. It does no I/O; see packages runner and process for
// how functions are executed.
package functions
