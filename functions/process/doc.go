// Package process is the sandbox of local worker processes.
//
// A function runs in a child process of its own, which speaks the wire of
// package runner over a socket that it inherits. One generic runner is kept warm,
// so that the first event of a sleeping function does not wait for a process to
// start. The child has its own process group, an empty environment and no file
// but that socket; it cannot gain privileges, dies with its agent, and is held by
// resource limits and, where the kernel lets the agent have them, control groups.
// Which walls could not be had is in the instance's description.
//
// Namespaces, users and system call filters are not among the walls yet.
package process
