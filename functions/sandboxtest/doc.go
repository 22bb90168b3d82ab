// Package sandboxtest holds the behaviour that every [functions.Sandbox] shows.
// A sandbox's own tests call [Run]; what is special to one kind of walls is
// tested there.
package sandboxtest
