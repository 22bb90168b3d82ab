// Program bench measures sedge beside a bare echo, in one run, through the same
// broker, turn by turn, and writes BENCHMARKS.md with the machine, the figures,
// their ratios and the budgets that were kept or missed.
//
// Load, echo, broker and node are processes of their own: bench starts itself
// again as "bench load" and "bench echo", mosquitto from the PATH and bin/sedge.
// All of it stays on loopback and ends with the run.
package main
