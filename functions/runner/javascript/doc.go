// Package javascript is the engine of the runtime "javascript".
//
// Code is one ES module whose default export, or whose export named handle, is
// the handler; a CommonJS module and a plain script with a function handle are
// taken as well. It is compiled once. Every invocation gets a context of its
// own: fresh globals, with nothing of the host in them but console, timers and
// the sedge object that the handler is given.
//
// The engine interrupts JavaScript at its deadline, but not a native function
// that it called, and it has no limit of memory: both are for the walls around
// the runner. See RATIONALE.md for the choice of engine.
package javascript
