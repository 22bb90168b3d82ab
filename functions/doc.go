// Package functions is the vocabulary of what runs: manifests, triggers,
// revisions, limits, and the contract between an agent and the sandboxes that
// run functions for it.
//
// It promises that a manifest is judged alike wherever it is read: [Parse] and
// [Validate] hold the same rules at the command, the hub and the agent, on
// every machine, and tell all faults at once. What it compiles ([Expression],
// [Gate], [Schedule]) is pure: no clock, no goroutine, and a bounded cost.
//
// But for [Load] and [Read] it does no I/O. How functions are executed is left
// to packages runner and process, when and in which order to package agent.
package functions
