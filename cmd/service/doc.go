// Package service is what programs share that run for long: a log for people or for
// programs, listeners that say who is in the way, a file of settings whose last good
// copy takes its place while it is broken, word to systemd, a last word to people,
// and metrics.
package service
