// Package devices is the vocabulary of what devices say: topics, filters with
// captures, messages, events. It does no I/O, starts no goroutine and reads no
// clock; package mqtt and package broker below it carry messages in and out.
package devices
