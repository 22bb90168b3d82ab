// Package walls confines the process that calls it, for good: what a runner
// gives up before it loads code that is not its own.
//
// [NoNewPrivileges] and [Filter] hold for every thread of the process and all that
// it starts; no call takes them back. [Limit] sets the resource limits. A wall that
// cannot be had is an error: whether to go on without it is the caller's choice.
package walls
