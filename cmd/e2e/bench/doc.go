// Program bench measures sedge beside a bare echo, in one run, through the same
// broker, turn by turn, and writes BENCHMARKS.md with the machine, the figures,
// their ratios and the budgets that were kept or missed.
//
// Load, echo, broker and node are processes of their own: bench starts itself
// again as "bench load" and "bench echo", mosquitto from the PATH and bin/sedge.
// It also starts bin/sedge-hub and "bench fleet", thousands of nodes in one process that
// speak with it as real ones do, and measures what they cost the hub and how fast it
// leads them. With -only hub it measures nothing else, and leaves the rest of the page.
//
// All of it stays on loopback and ends with the run.
package main
